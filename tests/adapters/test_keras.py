"""The Keras adapter: a view computes what the model computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.adapters.over_seeds import alone_and_together
from wormjax.adapters import from_keras


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def make(keras):
    """Make a network with moving statistics, dropout and named layers."""
    layers = keras.layers

    def make(rate=0.5):
        return keras.Sequential(
            [
                keras.Input((3,)),
                layers.Dense(4, name="first"),
                layers.BatchNormalization(name="norm", momentum=0.9),
                layers.Dropout(rate, name="drop"),
                layers.Dense(2, name="last"),
            ]
        )

    return make


def inputs(seed=1, shape=(8, 3)):
    return jax.random.normal(jax.random.key(seed), shape)


def test_params_and_state_are_named_by_the_paths_of_the_variables(make):
    net = make()
    view = from_keras(net)
    assert {name: sorted(leaves) for name, leaves in view.params.items()} == {
        "first": ["bias", "kernel"],
        "norm": ["beta", "gamma"],
        "last": ["bias", "kernel"],
    }
    assert sorted(view.state["norm"]) == ["moving_mean", "moving_variance"]
    np.testing.assert_array_equal(view.params["first"]["kernel"], net.layers[0].kernel)


def test_training_equals_the_model_and_updates_the_same_statistics(make):
    net = make()
    view = from_keras(net)
    state = view.state
    for step in range(3):
        output, state = view.apply(view.params, state, inputs(step), train=True)
        np.testing.assert_allclose(output, net(inputs(step), training=True), rtol=1e-6)
    again = from_keras(net).state  # Keras has changed its own variables
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), state, again)
    assert not np.array_equal(state["norm"]["moving_mean"], view.state["norm"]["moving_mean"])


def test_evaluation_equals_the_model_and_leaves_the_state(make):
    net = make()
    view = from_keras(net)
    output, state = view.apply(view.params, view.state, inputs())
    np.testing.assert_allclose(output, net(inputs(), training=False), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, state, view.state)


def test_the_arrays_that_are_given_are_the_ones_that_count(make):
    view = from_keras(make())
    params = jax.tree.map(jnp.zeros_like, view.params)
    params["last"]["bias"] = jnp.array([3.0, -4.0])
    output, _ = jax.jit(view.apply)(params, view.state, inputs())
    np.testing.assert_array_equal(output, np.broadcast_to([3.0, -4.0], (8, 2)))


def test_jit_grad_and_vmap_over_seeds(keras, make):
    nets = [make(rate=0.0)]
    nets.append(keras.models.clone_model(nets[0]))
    views = [from_keras(net) for net in nets]
    apply = views[0].apply
    assert apply == from_keras(nets[0]).apply
    assert hash(apply) == hash(from_keras(nets[0]).apply)

    def loss(params, state, x):
        output, state = apply(params, state, x, train=True)
        return jnp.sum(output**3), state["norm"]

    step = jax.value_and_grad(loss, has_aux=True)
    alone, together = alone_and_together(step, views, inputs())
    losses = alone[0][0]
    assert float(jnp.abs(losses[0] - losses[1])) > 1e-3
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        together,
        alone,
    )


def test_a_frozen_layer_is_state(make):
    net = make()
    net.layers[0].trainable = False
    view = from_keras(net)
    assert sorted(view.params) == ["last", "norm"]
    assert sorted(view.state["first"]) == ["bias", "kernel"]


def test_several_inputs_are_one_list(keras):
    a, b = keras.Input((3,)), keras.Input((3,))
    layer = keras.layers.Dense(2, name="dense")
    net = keras.Model([a, b], layer(a) - layer(b))
    view = from_keras(net)
    output, _ = view.apply(view.params, view.state, [inputs(0), inputs(1)])
    want = (inputs(0) - inputs(1)) @ view.params["dense"]["kernel"]
    np.testing.assert_allclose(output, want, atol=1e-6)


def test_a_model_that_takes_no_mode_is_called_alike(keras):
    class Doubling(keras.Model):
        def build(self, shape):
            self.gain = self.add_weight(name="gain", shape=(1,), initializer="ones")

        def call(self, x):
            return 2 * self.gain * x

    net = Doubling(name="doubling")
    with pytest.raises(ValueError, match="Doubling has no variables yet"):
        from_keras(net)
    net.build((None, 3))
    view = from_keras(net)
    for train in (True, False):
        output, _ = view.apply(view.params, view.state, jnp.ones((1, 3)), train=train)
        np.testing.assert_array_equal(output, 2 * np.ones((1, 3)))


def test_another_backend_is_named(keras, make, monkeypatch):
    net = make()
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(ValueError, match=r"its torch backend.*KERAS_BACKEND=jax before"):
        from_keras(net)


def test_other_objects_are_refused(keras):
    with pytest.raises(TypeError, match=r"got a dict, not a keras\.Model"):
        from_keras({})


def test_two_layers_of_one_name_are_refused(keras):
    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [keras.layers.Dense(3, name="twin") for _ in range(2)]

        def call(self, x):
            return self.parts[1](self.parts[0](x))

    net = Twins()
    net(inputs())
    with pytest.raises(ValueError, match=r"two variables or layers at the path '.*twin/kernel'"):
        from_keras(net)


def test_a_tree_of_another_structure_is_refused(make):
    view = from_keras(make())
    with pytest.raises(ValueError, match=r"params has another structure than view\.params"):
        view.apply({"first": view.params["first"]}, view.state, inputs())
    with pytest.raises(ValueError, match=r"state has another structure than view\.state"):
        view.apply(view.params, {}, inputs())


def test_a_layer_that_is_frozen_later_is_noticed(make):
    net = make()
    view = from_keras(net)
    net.layers[0].trainable = False
    with pytest.raises(ValueError, match=r"'first/(bias|kernel)' was frozen.*view it again"):
        view.apply(view.params, view.state, inputs())
