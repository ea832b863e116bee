"""compare: what each output decides, by labels, loss and activation, by name or not."""

import functools
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_spiking
from keras_spiking.conversion.decisions import Decisions
from keras_spiking.conversion.survey import Survey
from tests.conversion.models import sequential

COUNT = 40

# Few or short steps are meant here.
pytestmark = pytest.mark.filterwarnings("ignore:convert. an activation of 1 makes:UserWarning")


def decided(model, outputs, labels=None):
    """The decisions for such outputs, and the labels as decisions."""
    decisions = Decisions("compare", Survey("compare", model), model.loss, labels, COUNT)
    return *decisions.of(outputs), *decisions.labels


def assert_decided(model, outputs, labels, share):
    """Labels of any kind give this accuracy."""
    ours, right = decided(model, [outputs], labels)
    assert np.mean(ours == right) == share


def compared(model, data, labels=None):
    """The report on a conversion that is all but exact."""
    spiking = keras_spiking.convert(model, num_steps=1, dt=1e4)
    return keras_spiking.compare(model, spiking, data, labels)


def classifier(*end):
    return sequential((4,), layers.Dense(8, activation="relu"), *end)


def accuracies(report):
    (result,) = report.results
    for each in result.outputs:
        assert each.agreement in (1, None)
        assert each.accuracy == each.original_accuracy
    return [each.accuracy for each in result.outputs]


def two_heads(boxes=None, **compiled):
    """Classes and boxes, as a detector has them."""
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="relu")(inputs)
    outputs = [
        layers.Dense(3, activation="softmax", name="classes")(x),
        layers.Dense(4, activation=boxes, name="boxes")(x),
    ]
    model = keras.Model(inputs, outputs)
    if compiled:
        model.compile(**compiled)
    return model


@pytest.fixture
def data(rng):
    return rng.normal(size=(COUNT, 4)).astype("float32")


def named_inputs(as_mapping):
    # In alphabetical order, the left one comes first.
    inputs = {name: keras.Input((3,), name=name) for name in ("right", "left")}
    right, left = (
        layers.Dense(6, activation="relu", name=f"{name}_hidden")(inputs[name])
        for name in ("right", "left")
    )
    outputs = {
        "sum": layers.Dense(4, name="sum")(layers.Add()([right, left])),
        "left": layers.Dense(4, name="left_classes")(left),
    }
    if as_mapping:
        return keras.Model(inputs, outputs)
    return keras.Model(list(inputs.values()), list(outputs.values()))


@pytest.mark.parametrize("as_mapping", [True, False])
def test_inputs_and_labels_may_be_given_by_name(as_mapping, rng):
    model = named_inputs(as_mapping)
    data = {name: rng.normal(size=(COUNT, 3)).astype("float32") for name in ("right", "left")}
    predicted = model.predict_on_batch(data if as_mapping else list(data.values()))
    if as_mapping:
        labels = {name: predicted[name].argmax(axis=-1) for name in ("sum", "left")}
    else:
        labels = dict(
            zip(("sum", "left_classes"), (each.argmax(axis=-1) for each in predicted), strict=True)
        )
    # Half of one's labels are wrong, so that the outputs can be told apart.
    labels["sum"] = np.where(np.arange(COUNT) % 2, labels["sum"], (labels["sum"] + 1) % 4)
    report = compared(model, data, labels)
    found = {each.name: each.original_accuracy for each in report.results[0].outputs}
    assert found == {"sum": 0.5, "left_classes": 1.0}
    assert report.original_accuracy == 0.75
    assert report.results[0].output_error < 1e-3

    with pytest.raises(ValueError, match=r"`data` must have the names .*left.*; received"):
        compared(model, {"right": data["right"], "middle": data["left"]})
    with pytest.raises(ValueError, match=r"`labels` must have the names .*left.*; received"):
        compared(model, data, {"sum": labels["sum"], "one": labels["sum"]})


@pytest.mark.parametrize("as_mapping", [True, False])
def test_example_data_may_be_given_by_name(as_mapping, rng):
    model = named_inputs(as_mapping)
    scales = {"right": 10.0, "left": 0.1}
    data = {
        name: (scale * rng.normal(size=(COUNT, 3))).astype("float32")
        for name, scale in scales.items()
    }
    spiking = keras_spiking.convert(
        model, num_steps=2, rate_scale="calibrate", example_data=data, target_rate=50
    )
    for name, values in data.items():
        kernel, bias = model.get_layer(f"{name}_hidden").get_weights()
        strongest = np.percentile(np.maximum(values @ kernel + bias, 0), 99.9, axis=0)
        scale = spiking.get_layer(f"{name}_hidden_spikes").rate_scale
        assert scale == pytest.approx(50 / strongest, rel=1e-3)


def test_a_list_for_inputs_with_names_is_refused_where_its_order_could_be_another(rng):
    data = [rng.normal(size=(COUNT, 3)).astype("float32") for _ in range(2)]
    with pytest.raises(ValueError, match=r"`data` must be a dictionary with .*\['right', 'left'\]"):
        compared(named_inputs(as_mapping=True), data)


def native(name):
    """The function of the backend itself."""
    backend = keras.backend.backend()
    module = {"tensorflow": "nn", "jax": "nn", "torch": "nn.functional"}[backend]
    return functools.reduce(getattr, [*module.split("."), name], sys.modules[backend])


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "function",
    [
        ops.softmax,
        ops.log_softmax,
        keras.activations.softmax,
        lambda x: native("softmax")(x, -1),
        functools.partial(ops.softmax, axis=-1),
        layers.Activation(ops.softmax),
        layers.Softmax(),
    ],
)
def test_a_final_softmax_is_seen_whatever_function_it_is(function, rng):
    model = classifier(layers.Dense(3, activation=function))
    outputs = rng.normal(size=(COUNT, 3))
    labels = np.arange(COUNT) % 3
    assert_decided(model, outputs, labels, np.mean(outputs.argmax(axis=-1) == labels))
    np.testing.assert_array_equal(decided(model, [outputs])[0], outputs.argmax(axis=-1))


@pytest.mark.every_backend
@pytest.mark.parametrize("function", [ops.sigmoid, native("sigmoid"), ops.hard_sigmoid])
def test_a_final_sigmoid_is_seen_whatever_function_it_is(function, rng):
    model = classifier(layers.Dense(1, activation=function))
    outputs = rng.uniform(size=(COUNT, 1))
    labels = np.arange(COUNT) % 2
    assert_decided(model, outputs, labels, np.mean((outputs[:, 0] > 0.5) == labels))
    np.testing.assert_array_equal(decided(model, [outputs])[0], outputs > 0.5)


def test_classes_as_labels_say_that_the_greatest_unit_counts(rng):
    labels = np.arange(COUNT) % 3
    outputs = rng.normal(size=(COUNT, 3))
    for activation in (lambda x: ops.softmax(x) / 2, "relu", "sigmoid", None):
        model = classifier(layers.Dense(3, activation=activation))
        assert_decided(model, outputs, labels, np.mean(outputs.argmax(axis=-1) == labels))


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_functions_that_cannot_be_serialized_are_compared(data):
    model = sequential(
        (4,),
        layers.Dense(8, activation=lambda x: ops.relu(x) / 2),
        layers.Dense(3, activation=native("silu")),
    )
    (result,) = compared(model, data).results
    assert result.agreement is None
    assert result.output_error < 1e-3


@pytest.mark.parametrize(
    ("loss", "threshold"),
    [
        (None, 0),
        (keras.losses.BinaryCrossentropy(from_logits=True), 0),
        ("hinge", 0),
        ("binary_crossentropy", 0.5),
        ("mse", 0.5),
    ],
    ids=["none", "from logits", "hinge", "cross-entropy", "mse"],
)
def test_a_single_unit_without_activation_says_yes_above_its_threshold(loss, threshold, rng):
    model = classifier(layers.Dense(1))
    if loss is not None:
        model.compile(loss=loss)
    outputs = rng.normal(size=(COUNT, 1))
    truth = rng.uniform(size=COUNT) > 0.5
    share = np.mean((outputs[:, 0] > threshold) == truth)
    for labels in (
        truth,
        truth.astype(int),
        truth[:, None].astype("float32"),
        np.where(truth, 1, -1),
    ):
        assert_decided(model, outputs, labels, share)
    alone, _ = decided(model, [outputs])
    if loss in (None, "mse"):
        assert alone is None
    else:
        np.testing.assert_array_equal(alone, outputs > threshold)


def test_a_binary_classifier_on_logits(data):
    model = classifier(layers.Dense(1))
    labels = np.arange(COUNT) % 2
    right = np.mean((model.predict_on_batch(data)[:, 0] > 0) == labels)
    assert accuracies(compared(model, data, labels)) == [right]


def test_numbers_for_a_single_unit_are_no_classes(rng):
    model, outputs = classifier(layers.Dense(1)), [rng.normal(size=(COUNT, 1))]
    with pytest.raises(ValueError, match="`labels` must be classes for at least one output"):
        decided(model, outputs, np.linspace(0, 1, COUNT))
    with pytest.raises(ValueError, match=r"`labels` must have the shape of the outputs, \(40, 1\)"):
        decided(model, outputs, np.zeros((COUNT, 2)))


@pytest.mark.parametrize("boxes", [None, "sigmoid"])
def test_a_head_of_numbers_has_an_error_and_no_accuracy(boxes, data, rng):
    model = two_heads(boxes)
    labels = [np.arange(COUNT) % 3, rng.uniform(size=(COUNT, 4))]
    right = np.mean(model.predict_on_batch(data)[0].argmax(axis=-1) == labels[0])
    report = compared(model, data, labels)
    assert accuracies(report) == [right, None]
    _, found = report.results[0].outputs
    assert (report.original_accuracy, report.results[0].agreement) == (right, 1)
    assert found.agreement is None
    assert 0 <= found.error < 1e-3
    for text in (str(report), report._repr_html_()):
        assert "of the original" in text
        assert "boxes" in text


@pytest.mark.parametrize("boxes", [None, "sigmoid"])
@pytest.mark.parametrize(
    "loss",
    [
        ["sparse_categorical_crossentropy", keras.losses.Huber()],
        {"boxes": "mse", "classes": "sparse_categorical_crossentropy"},
        {"boxes": "mae"},
    ],
    ids=["list", "names", "one name"],
)
def test_a_loss_of_numbers_says_that_an_output_has_no_classes(boxes, loss, rng):
    model = two_heads(boxes)
    outputs = [rng.normal(size=(COUNT, 3)), rng.normal(size=(COUNT, 4))]
    model.compile(loss=loss)
    classes, none, *_ = decided(model, outputs)
    assert none is None
    np.testing.assert_array_equal(classes, outputs[0].argmax(axis=-1))


def test_of_several_outputs_one_that_nothing_says_is_classes_is_not(rng):
    outputs = [rng.normal(size=(COUNT, 3)), rng.normal(size=(COUNT, 4))]
    labels = np.arange(COUNT) % 3
    for given in (None, [labels, None]):
        _, boxes, *_ = decided(two_heads(), outputs, given)
        assert boxes is None
    _, boxes, _, right = decided(two_heads(), outputs, [labels, labels])
    np.testing.assert_array_equal(boxes, outputs[1].argmax(axis=-1))
    np.testing.assert_array_equal(right, labels)
    single = classifier(layers.Dense(3))
    np.testing.assert_array_equal(decided(single, outputs[:1])[0], outputs[0].argmax(axis=-1))


def test_units_that_each_say_yes_or_no(rng):
    model, outputs = classifier(layers.Dense(5)), rng.normal(size=(COUNT, 5))
    labels = (np.arange(COUNT * 5).reshape(COUNT, 5) % 3 == 0).astype(int)
    assert_decided(model, outputs, labels, np.mean((outputs > 0) == labels))
    one_hot = np.eye(5)[np.arange(COUNT) % 5]
    right = np.mean(outputs.argmax(axis=-1) == np.arange(COUNT) % 5)
    assert_decided(model, outputs, one_hot, right)
    assert_decided(model, outputs, 0.9 * one_hot + 0.02, right)
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    assert_decided(model, outputs, one_hot, np.mean((outputs > 0) == one_hot))


def test_only_many_steps_with_several_spikes_are_worth_a_note(rng):
    model = classifier(layers.Dense(3, activation="softmax"))
    data = rng.normal(size=(400, 4)).astype("float32")
    for target_rate, noted in ((100, False), (1000, True)):
        spiking = keras_spiking.convert(
            model,
            num_steps=20,
            dt=0.01,
            rate_scale="calibrate",
            example_data=data,
            target_rate=target_rate,
        )
        (result,) = keras_spiking.compare(model, spiking, data).results
        assert result.layers[0].several > 0
        assert any("several spikes" in note for note in result.notes()) == noted
