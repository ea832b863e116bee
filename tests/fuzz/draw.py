"""Random choices, all from one seed, and the parts of models that both kinds of models share."""

import keras
import numpy as np

POLICIES = ["float32"] * 8 + ["mixed_bfloat16", "mixed_float16", "float64"]

NAMED_ACTIVATIONS = """
    relu leaky_relu relu6 linear tanh sigmoid softplus elu gelu silu selu softsign hard_sigmoid mish
""".split()


class Draw:
    """What is drawn from a seed; the same seed draws the same again.

    Args:
        seed: A number, or a sequence of them.
    """

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def chance(self, probability):
        """True as often as that."""
        return bool(self.rng.random() < probability)

    def pick(self, options):
        """One of the options."""
        return options[self.rng.integers(len(options))]

    def integer(self, low, high):
        """An integer between these, both included."""
        return int(self.rng.integers(low, high + 1))

    def uniform(self, low, high, shape=None):
        """A number, or an array of them."""
        value = self.rng.uniform(low, high, shape)
        return float(value) if shape is None else value

    def log_uniform(self, low, high):
        """A number whose magnitude may be any between these."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def normal(self, shape, scale=1.0):
        """An array of float32."""
        return self.rng.normal(scale=scale, size=shape).astype("float32")


def activation(draw):
    """An activation of single elements, in one of the forms that Keras takes."""
    form = draw.integer(0, 9)
    if form < 6:
        return draw.pick(NAMED_ACTIVATIONS)
    if form == 6:
        return getattr(keras.ops, draw.pick(["relu", "tanh", "softplus", "silu"]))
    if form == 7:
        return keras.layers.PReLU(alpha_initializer=keras.initializers.Constant(0.25))
    if form == 8:
        return keras.layers.ReLU(max_value=draw.uniform(1, 50), negative_slope=0.1)
    return keras.layers.LeakyReLU(negative_slope=draw.uniform(0, 1))


def randomize(model, draw):
    """Gives weights that begin as zeros or ones other values, so that mixing them up shows."""
    for layer in flat_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([draw.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(draw.normal(layer.bias.shape, 0.1))


def flat_layers(model):
    """All layers of a model, those of nested models and wrappers included."""
    found = []
    for layer in model.layers if hasattr(model, "layers") else [model]:
        found.append(layer)
        if isinstance(layer, keras.Model):
            found += flat_layers(layer)
        elif hasattr(layer, "layer"):
            found += flat_layers(layer.layer)
    return found
