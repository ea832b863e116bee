"""Checks whole models: they build, train, save, load, and give the same again."""

import keras
import numpy as np
from keras import ops

import keras_spiking
from tests.fuzz.draw import flat_layers
from tests.fuzz.feed_forward import conversion_options
from tests.fuzz.layer_checks import check_layers


def check_model_over_time(case, draw, folder):
    """Runs all checks of a model over time."""
    model, inputs = case.model, case.inputs
    outputs = predict(model, inputs)
    (promised,) = model.outputs
    assert outputs.dtype == promised.dtype, f"outputs are {outputs.dtype}, not {promised.dtype}"
    promised = model.compute_output_shape(inputs.shape)
    assert outputs.shape == tuple(promised), f"{outputs.shape}, promised were {promised}"
    assert _fits(outputs.shape, model.output_shape), f"{outputs.shape} {model.output_shape}"
    _check_copies(model, inputs, folder)
    check_layers(model, inputs, draw)
    _check_eager(case)
    if case.stateful:
        _check_pieces(case, draw)
    check_energy(model, inputs)
    _check_training(case, draw)
    loaded = _check_file(model, inputs, folder / "trained.keras")
    _check_further_training(model, loaded, case)


def check_conversion(case, draw, folder):
    """Runs all checks of a model without time, and of what `convert` makes of it."""
    model, inputs = case.model, case.inputs
    outputs, weights = predict(model, inputs), model.get_weights()
    if draw.chance(0.5):
        model.compile("sgd", "mse")
    # As many spikes as it takes for their sum to be the activation.
    fine = keras_spiking.convert(model, num_steps=2, dt=1.0, rate_scale=2.0**16, seed=0)
    scale = np.abs(outputs).max()
    np.testing.assert_allclose(
        predict(fine, inputs), outputs, rtol=0.01, atol=0.005 * scale, err_msg="converted"
    )
    options = conversion_options(draw, inputs)
    case.options = {name: value for name, value in options.items() if name != "example_data"}
    spiking = keras_spiking.convert(model, **options)
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other, err_msg="conversion changed the original")
    converted = predict(spiking, inputs)
    steps = (options["num_steps"],) if options["readout"] == "sequence" else ()
    assert converted.shape == (len(inputs), *steps, *outputs.shape[1:])
    check_layers(spiking, inputs, draw)
    _check_copies(spiking, inputs, folder)
    check_energy(model, inputs)
    check_energy(spiking, inputs)
    report = keras_spiking.compare(model, spiking, inputs) if steps == () else None
    assert report is None or len(str(report)) > 0
    case.model, case.targets = spiking, np.zeros_like(converted)
    _check_training(case, draw)
    _check_file(spiking, inputs, folder / "trained.keras")


def predict(model, inputs):
    """Outputs of the compiled model, from its initial state."""
    keras_spiking.reset_states(model)
    outputs = model.predict(inputs, verbose=0, batch_size=len(inputs))
    assert np.isfinite(np.asarray(outputs, "float32")).all(), "outputs are not finite"
    return outputs


def _fits(shape, promised):
    return len(shape) == len(promised) and all(
        length in (None, actual) for actual, length in zip(shape, promised, strict=True)
    )


def _assert_equal_predictions(model, copy, inputs, how):
    """The copy has the same weights, and its outputs are the same."""
    for variable, original in zip(copy.weights, model.weights, strict=True):
        value, expected = (ops.convert_to_numpy(each) for each in (variable, original))
        np.testing.assert_array_equal(value, expected, err_msg=f"{variable.path} {how}")
    for generator, original in zip(_generators(copy), _generators(model), strict=True):
        generator.assign(ops.convert_to_numpy(original))
    _assert_most_samples_near(predict(copy, inputs), predict(model, inputs), how)


def _generators(model):
    """The states of the random generators of a model."""
    return [each for each in model.variables if "seed_generator" in each.path]


def _check_file(model, inputs, path):
    model.save(path)
    loaded = keras.saving.load_model(path)
    _assert_equal_predictions(model, loaded, inputs, "loaded from .keras")
    return loaded


def _check_copies(model, inputs, folder):
    """Files, configs and clones make models with equal outputs."""
    loaded = _check_file(model, inputs, folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    for weight in loaded.weights:
        weight.assign(np.zeros(weight.shape))
    loaded.load_weights(folder / "model.weights.h5")
    _assert_equal_predictions(model, loaded, inputs, "loaded from .weights.h5")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    _assert_equal_predictions(model, clone, inputs, "cloned")


def _check_eager(case):
    """Eager code gives what the compiled model gives, but for spikes that rounding moved."""
    if case.policy.startswith("mixed") or _draws_freshly(case.model):
        return
    expected = predict(case.model, case.inputs)
    keras_spiking.reset_states(case.model)
    outputs = ops.convert_to_numpy(case.model(case.inputs, training=False))
    _assert_most_samples_near(outputs, expected, "eager")


def _check_pieces(case, draw):
    """A stateful model that is fed in pieces gives what it gives for the whole."""
    model, length = case.model, case.inputs.shape[1]
    whole = predict(model, case.inputs)
    if whole.ndim < 3 or model.input_shape[1] is not None or case.policy.startswith("mixed"):
        return
    if _draws_freshly(model):
        return
    cut = draw.integer(1, max(1, length - 1))
    keras_spiking.reset_states(model)
    pieces = [
        model.predict(piece, verbose=0, batch_size=len(piece))
        for piece in (case.inputs[:, :cut], case.inputs[:, cut:])
        if piece.shape[1]
    ]
    _assert_most_samples_near(np.concatenate(pieces, axis=1), whole, f"in pieces, cut at {cut}")


def _draws_freshly(model):
    """Whether a layer draws a voltage of its own at every call."""
    return any(
        getattr(layer, "initial_voltage", None) == "random_uniform" and layer.seed is None
        for layer in flat_layers(model)
        if isinstance(getattr(layer, "initial_voltage", None), str)
    ) or any(isinstance(layer, keras.layers.RNN) for layer in flat_layers(model))


def _assert_most_samples_near(outputs, expected, how):
    assert outputs.shape == expected.shape, f"{outputs.shape} and not {expected.shape} {how}"
    scale = np.abs(expected).max(initial=1e-30)
    near = np.isclose(outputs, expected, rtol=1e-3, atol=1e-3 * scale)
    samples = near.reshape(len(near), -1).mean(axis=1)
    assert (samples > 0.95).sum() >= len(near) - 1, f"outputs differ {how}: {samples}"
    if len(near) == 1:
        assert samples[0] >= 0.5, f"outputs differ {how}"


def check_energy(model, inputs):
    """Estimates exist, are sums of their parts, and grow with the number of steps."""
    keras_spiking.reset_states(model)
    energy = keras_spiking.ModelEnergy(model, inputs)
    for device in ("cpu", "loihi"):
        total = energy.total_energy(device, timesteps_per_inference=3, dt=0.01)
        parts = [
            sum(energy.layer_energy(layer, device, timesteps_per_inference=3, dt=0.01))
            for layer in energy.layer_stats
        ]
        assert np.isfinite(total), f"energy on {device} is {total}"
        assert total >= 0, f"energy on {device} is {total}"
        np.testing.assert_allclose(sum(parts), total, rtol=1e-6, err_msg=f"parts on {device}")
    once = energy.total_energy("loihi", timesteps_per_inference=1, dt=0.01)
    np.testing.assert_allclose(3 * once, total, rtol=1e-6, err_msg="steps on loihi")
    for layer in energy.layer_stats:
        assert layer.name in energy.summary_string(line_length=200)


def _check_training(case, draw):
    """A step of training leaves numbers, and weights within their constraints."""
    model = case.model
    optimizer = draw.pick([keras.optimizers.SGD(1e-4), keras.optimizers.Adam(1e-3)])
    callbacks = []
    if case.dt is not None and draw.chance(0.5):
        start = float(ops.convert_to_numpy(case.dt))
        schedule = lambda step: start / (1 + 0.1 * step)  # noqa: E731
        callbacks.append(keras_spiking.callbacks.DtScheduler(case.dt, schedule))
    model.compile(optimizer, "mse", run_eagerly=draw.chance(0.2))
    history = model.fit(
        case.inputs,
        case.targets,
        batch_size=len(case.inputs),
        epochs=2,
        verbose=0,
        callbacks=callbacks,
    )
    assert np.isfinite(history.history["loss"]).all(), f"loss {history.history['loss']}"
    for variable in model.variables:
        value = np.asarray(ops.convert_to_numpy(ops.cast(variable, "float32")))
        assert np.isfinite(value).all(), f"{variable.path} is not finite after training"
    for layer in flat_layers(model):
        cell = getattr(layer, "cell", None)
        constrained = isinstance(
            getattr(cell, "tau_constraint", None), keras_spiking.constraints.Mean
        )
        if constrained and cell.apply_during_training:  # else nothing is trained
            tau = ops.convert_to_numpy(cell.tau)
            np.testing.assert_allclose(tau.max(axis=-1), tau.min(axis=-1), rtol=1e-5)


def _check_further_training(model, loaded, case):
    """A model loaded from a file trains on as the one that was saved."""
    if any(isinstance(layer, keras.layers.Dropout) for layer in flat_layers(model)):
        return
    if _draws_freshly(model):
        return
    losses = []
    for each in (model, loaded):
        keras_spiking.reset_states(each)
        losses.append(float(each.train_on_batch(case.inputs, case.targets)))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4, err_msg="trained further")
    for one, other in zip(model.trainable_weights, loaded.trainable_weights, strict=True):
        one, other = ops.convert_to_numpy(one), ops.convert_to_numpy(other)
        atol = 1e-4 * np.abs(one).max(initial=1e-30)
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=atol, err_msg="trained further")
