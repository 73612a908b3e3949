"""The Linen adapter: a view computes what module.apply computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from flax.core import FrozenDict, freeze

from tests.adapters.over_seeds import alone_and_together
from wormjax.adapters import from_linen


class Net(nn.Module):
    """Dense, BatchNorm and dropout behind one ``train`` argument."""

    rate: float = 0.0

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dense(4)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dropout(self.rate, deterministic=not train)(x)


def inputs(seed=1, shape=(8, 3)):
    return jax.random.normal(jax.random.key(seed), shape)


def make(module):
    return module.init(jax.random.key(0), inputs())


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_training_equals_the_module_and_updates_the_same_statistics():
    net = Net()
    variables = make(net)
    view = from_linen(net, variables)
    state, stats = view.state, variables["batch_stats"]
    for step in range(3):
        output, state = view.apply(view.params, state, inputs(step), train=True)
        native, changed = net.apply(
            {"params": variables["params"], "batch_stats": stats},
            inputs(step),
            train=True,
            mutable=["batch_stats"],
        )
        stats = changed["batch_stats"]
        np.testing.assert_array_equal(output, native)
    assert_same(state, {"batch_stats": stats})
    assert not np.array_equal(
        stats["BatchNorm_0"]["mean"], variables["batch_stats"]["BatchNorm_0"]["mean"]
    )


def test_evaluation_equals_the_module_and_leaves_the_state():
    net = Net(rate=0.5)
    variables = make(net)
    view = from_linen(net, variables)
    output, state = view.apply(view.params, view.state, inputs())
    np.testing.assert_array_equal(output, net.apply(variables, inputs()))
    assert_same(state, view.state)


def test_dropout_keys_live_in_the_state():
    net = Net(rate=0.5)
    view = from_linen(net, make(net), rngs={"dropout": jax.random.key(7)})
    first, state = view.apply(view.params, view.state, inputs(), train=True)
    again, _ = view.apply(view.params, view.state, inputs(), train=True)
    second, _ = view.apply(view.params, state, inputs(), train=True)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(np.asarray(first) == 0, np.asarray(second) == 0)
    used, kept = jax.random.split(jax.random.key(7))
    native, _ = net.apply(
        {"params": view.params, "batch_stats": view.state["batch_stats"]},
        inputs(),
        train=True,
        rngs={"dropout": used},
        mutable=["batch_stats"],
    )
    np.testing.assert_array_equal(first, native)
    assert state["rngs"]["dropout"] == kept
    assert jax.tree.structure(state) == jax.tree.structure(view.state)


def test_jit_grad_and_vmap_over_seeds():
    net = Net(rate=0.5)
    views = [
        from_linen(
            net, net.init(jax.random.key(seed), inputs()), rngs={"dropout": jax.random.key(seed)}
        )
        for seed in range(3)
    ]
    apply = views[0].apply
    assert apply == views[1].apply
    assert hash(apply) == hash(views[1].apply)

    def loss(params, state, x):
        output, state = apply(params, state, x, train=True)
        return jnp.sum(output**3), state["batch_stats"]

    step = jax.value_and_grad(loss, has_aux=True)
    alone, together = alone_and_together(step, views, inputs())
    assert max(float(jnp.abs(leaf[0]).max()) for leaf in jax.tree.leaves(alone[1])) > 1
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        together,
        alone,
    )


@pytest.mark.parametrize(
    ("argument", "in_training"),
    [
        ("train", True),
        ("training", True),
        ("is_training", True),
        ("deterministic", False),
        ("use_running_average", False),
    ],
)
def test_the_mode_goes_in_under_the_name_the_module_uses(argument, in_training):
    namespace: dict = {}
    exec(
        f"def call(self, x, *, {argument}): return x * self.gain() * (2.0 if {argument} else 1.0)",
        namespace,
    )
    members = {
        "__call__": nn.compact(namespace["call"]),
        "gain": lambda self: self.param("gain", lambda key: jnp.ones((1, 1))),
    }
    module = type("Named", (nn.Module,), members)()
    view = from_linen(module, {"params": {"gain": jnp.ones((1, 1))}})
    for train in (True, False):
        output, _ = view.apply(view.params, view.state, jnp.ones((1, 1)), train=train)
        assert output.item() == (2.0 if train == in_training else 1.0)


def test_a_module_without_a_mode_is_called_alike():
    module = nn.Dense(2)
    view = from_linen(module, make(module))
    assert view.state == {}
    training, state = view.apply(view.params, {}, inputs(), train=True)
    np.testing.assert_array_equal(training, view.apply(view.params, {}, inputs())[0])
    assert state == {}


def test_own_keyword_arguments_replace_the_guess():
    class Scaled(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool = False, gain: float = 1.0):
            assert not train
            return gain * nn.Dense(2)(x)

    module = Scaled()
    view = from_linen(module, make(module), train_kwargs={"gain": 3.0})
    training, _ = view.apply(view.params, view.state, inputs(), train=True)
    evaluating, _ = view.apply(view.params, view.state, inputs())
    np.testing.assert_allclose(training, 3 * evaluating, rtol=1e-6)


def test_frozen_variables_are_thawed():
    net = Net()
    view = from_linen(net, freeze(make(net)))
    assert not any(
        isinstance(node, FrozenDict)
        for node in jax.tree.leaves(
            (view.params, view.state), is_leaf=lambda n: isinstance(n, FrozenDict)
        )
    )
    assert type(view.params["Dense_0"]) is dict
    assert type(view.state["batch_stats"]["BatchNorm_0"]) is dict


def test_refuses_what_is_not_a_linen_module():
    with pytest.raises(TypeError, match=r"use wormjax\.adapters\.from_nnx"):
        from_linen(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), {"params": {}})


def test_refuses_variables_without_params():
    with pytest.raises(ValueError, match=r"no 'params' collection, only \['kernel'\]"):
        from_linen(nn.Dense(2), {"kernel": jnp.ones((3, 2))})


def test_refuses_a_collection_named_rngs():
    with pytest.raises(ValueError, match="a collection named 'rngs'"):
        from_linen(nn.Dense(2), {"params": {}, "rngs": {}})


def test_a_missing_key_is_a_sentence():
    net = Net(rate=0.5)
    view = from_linen(net, make(net))
    with pytest.raises(
        ValueError, match=r'Net draws random numbers in training.*rngs=\{"dropout": key\}'
    ):
        view.apply(view.params, view.state, inputs(), train=True)


def test_refuses_a_forward_pass_that_changes_the_structure():
    class Sows(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.sow("losses", "seen", x)
            return nn.Dense(2)(x)

    module = Sows()
    view = from_linen(module, make(module))
    with pytest.raises(ValueError, match="Sows makes or deletes losses/seen/1, so its state would"):
        view.apply(view.params, view.state, inputs(), train=True)
