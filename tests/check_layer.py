"""One check for every layer: what any user of Keras relies on."""

import keras
import numpy as np
from keras import ops

from tests.layers.cases import assert_same, run


def check_layer(make, features, tmp_path, exact=False):
    """Checks a layer's shapes, symbolic and eager calls, config, files, training and precision.

    Args:
        make: Function of the layer's keyword arguments that makes it, with the same state at
            every call.
        features: Shape of the feature axes.
        tmp_path: Folder for a saved model.
        exact: Whether outputs must be equal to the bit.
    """
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(3, 12, *features)).astype("float32")
    _check_shapes(make, inputs)
    _check_config(make, inputs, exact)
    _check_model(make, inputs, tmp_path, exact)
    _check_training(make, inputs)
    _check_precision(make, inputs)


def _check_shapes(make, inputs):
    for sequences in (True, False):
        for state in (True, False):
            for time_major in (True, False):
                layer = make(return_sequences=sequences, return_state=state, time_major=time_major)
                given = np.swapaxes(inputs, 0, 1) if time_major else inputs
                promised = layer.compute_output_shape(given.shape)
                outputs = layer(given)
                symbolic = layer(keras.KerasTensor(given.shape))
                keras.tree.assert_same_structure(outputs, symbolic)
                shapes = [tuple(each.shape) for each in keras.tree.flatten(outputs)]
                assert shapes == ([tuple(each) for each in promised] if state else [promised])
                for each, promise in zip(
                    keras.tree.flatten(outputs), keras.tree.flatten(symbolic), strict=True
                ):
                    assert tuple(each.shape) == promise.shape
                    assert keras.backend.standardize_dtype(each.dtype) == promise.dtype


def _check_config(make, inputs, exact):
    layer = make(name="named")
    expected = run(layer, inputs)
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    copy.build(inputs.shape)
    copy.set_weights(layer.get_weights())
    assert_same(run(copy, inputs), expected, exact)


def _check_model(make, inputs, tmp_path, exact):
    unknown = keras.Input((None, *inputs.shape[2:]))
    model = keras.Model(unknown, make()(unknown))
    assert model.output_shape == (None, None, *inputs.shape[2:])
    expected = run(make(), inputs)
    assert_same(model.predict(inputs, verbose=0), expected, exact)
    part = inputs[:1, :6]
    assert_same(model.predict(part, verbose=0), run(make(), part), exact)

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(run(loaded, inputs), expected, exact)
    model.save_weights(tmp_path / "model.weights.h5")
    loaded.load_weights(tmp_path / "model.weights.h5")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_same(run(clone, inputs), expected, exact)


def _check_training(make, inputs):
    targets = np.zeros_like(inputs)
    for run_eagerly in (False, True):
        model = keras.Sequential([keras.layers.Dense(inputs.shape[-1]), make()])
        model.build((None, *inputs.shape[1:]))
        before = [ops.convert_to_numpy(weight) for weight in model.trainable_weights]
        model.compile("sgd", "mse", run_eagerly=run_eagerly)
        history = model.fit(inputs, targets, epochs=2, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
        for weight, old in zip(model.trainable_weights, before, strict=True):
            assert not np.array_equal(ops.convert_to_numpy(weight), old), weight.path


def _check_precision(make, inputs):
    expected = run(make(), inputs)
    for policy in ("mixed_bfloat16", "mixed_float16", "float64"):
        if policy == "float64" and keras.backend.backend() == "jax":
            continue  # JAX computes in float32 unless its x64 mode is on.
        layer = make(dtype=policy, return_state=True)
        outputs, *states = layer(inputs)
        assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
        state_dtype = "float64" if policy == "float64" else "float32"
        for state in states:
            assert keras.backend.standardize_dtype(state.dtype) == state_dtype
        assert np.isfinite(ops.convert_to_numpy(ops.cast(outputs, "float32"))).all()
        for weight in layer.weights:
            assert weight.dtype == state_dtype
        if policy == "float64":
            continue
        # Near the single-precision result, or, for spikes, near it in their sum over time.
        total = ops.convert_to_numpy(ops.sum(ops.cast(outputs, "float32"), axis=1))
        spike = 1 / float(layer.dt) if not layer.weights else 0
        np.testing.assert_allclose(total, expected.sum(axis=1), rtol=0.05, atol=0.1 + 1.01 * spike)
