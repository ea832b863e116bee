"""Recordings by hand: figures need no model."""

import numpy as np

from keras_spiking.recording import LayerRecording, Recording

DT = 0.01


def layer(name, counts, **others):
    """What a layer with these numbers of spikes, `(samples, time, ...)`, did."""
    counts = np.asarray(counts)
    return LayerRecording(name, dt=DT, rate_scale=2.0, spikes=counts / (2 * DT), **others)


def recording(*layers, outputs=None):
    return Recording({each.name: each for each in layers}, outputs)


def random_layer(name, shape, mean=0.2, seed=0, **others):
    return layer(name, np.random.default_rng(seed).poisson(mean, shape), **others)
