"""The NNX adapter: a view computes what the module computes, and gives it back."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import linen, nnx

from tests.adapters.over_seeds import alone_and_together
from wormjax.adapters import View, from_linen, from_nnx, to_nnx


class Net(nnx.Module):
    """Twelve layers in a list (so that 10 must not sort before 2), BatchNorm and dropout."""

    def __init__(self, key):
        rngs = nnx.Rngs(key)
        self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(12)])
        self.norm = nnx.BatchNorm(3, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.drop(self.norm(x))


def key(seed=0):
    return jax.random.key(seed)


def inputs(seed=1, shape=(8, 3)):
    return jax.random.normal(key(seed), shape)


def values(tree):
    """Return the leaves as NumPy arrays, keys as their data."""

    def data(a):
        return jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a

    return [np.asarray(data(leaf)) for leaf in jax.tree.leaves(tree)]


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(values(a), values(b), strict=True):
        np.testing.assert_array_equal(left, right)


def test_training_equals_the_module_and_updates_the_same_state():
    model = Net(key())
    view = from_nnx(model)
    state = view.state
    model.train()
    for step in range(3):
        output, state = view.apply(view.params, state, inputs(step), train=True)
        np.testing.assert_array_equal(output, model(inputs(step)))
    assert_same(state, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param))))
    assert int(state["drop"]["rngs"]["count"]) == int(view.state["drop"]["rngs"]["count"]) + 3


def test_evaluation_equals_the_module_and_leaves_the_state():
    model = Net(key())
    view = from_nnx(model)
    _, state = view.apply(view.params, view.state, inputs(), train=True)
    output, after = view.apply(view.params, state, inputs(2))
    native = to_nnx(view, view.params, state)
    native.eval()
    np.testing.assert_array_equal(output, native(inputs(2)))
    assert_same(after, state)


def test_the_module_itself_is_left_alone():
    model = Net(key())
    model.eval()
    before = nnx.to_pure_dict(nnx.state(model))
    view = from_nnx(model)
    view.apply(view.params, view.state, inputs(), train=True)
    assert_same(nnx.to_pure_dict(nnx.state(model)), before)
    assert model.norm.use_running_average is True
    assert model.drop.deterministic is True


def test_trees_are_plain_dicts_in_order_of_definition():
    view = from_nnx(Net(key()))
    assert type(view.params) is dict
    assert list(view.params["layers"]) == list(range(12))
    leaves = jax.tree_util.tree_leaves_with_path(view.params["layers"])
    assert [path[0].key for path, _ in leaves][::2] == list(range(12))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((view.params, view.state)))


def test_jit_grad_and_vmap_over_seeds():
    views = [from_nnx(Net(key(seed))) for seed in range(3)]
    apply = views[0].apply

    def loss(params, state, x):
        output, state = apply(params, state, x, train=True)
        return jnp.sum(output**3), state

    step = jax.value_and_grad(loss, has_aux=True)
    alone, together = alone_and_together(step, views, inputs())
    assert max(float(jnp.abs(leaf[0]).max()) for leaf in jax.tree.leaves(alone[1])) > 1
    assert jax.tree.structure(together[1]) == jax.tree.structure(views[0].params)
    for left, right in zip(values(together), values(alone), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-4)


def test_scan_carries_the_state_as_a_loop_does():
    view = from_nnx(Net(key()))
    batches = inputs(shape=(4, 8, 3))
    carry, _ = jax.lax.scan(
        lambda state, x: view.apply(view.params, state, x, train=True)[::-1], view.state, batches
    )
    state = view.state
    for x in batches:
        _, state = view.apply(view.params, state, x, train=True)
    for left, right in zip(values(carry), values(state), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_optax_trains_the_dict():
    view = from_nnx(nnx.Linear(3, 1, use_bias=False, rngs=nnx.Rngs(0)))
    target = inputs() @ jnp.array([[1.0], [-2.0], [3.0]])

    def loss(params):
        return jnp.mean((view.apply(params, view.state, inputs())[0] - target) ** 2)

    tx = optax.sgd(0.1)

    @jax.jit
    def step(params, opt_state):
        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params, opt_state = view.params, tx.init(view.params)
    for _ in range(300):
        params, opt_state = step(params, opt_state)
    np.testing.assert_allclose(params["kernel"], [[1.0], [-2.0], [3.0]], atol=1e-2)
    assert loss(params) < 1e-3 < loss(view.params)


def test_equal_modules_compile_once():
    views = [from_nnx(Net(key(seed))) for seed in range(2)]
    assert views[0].apply == views[1].apply
    traces = []

    def forward(apply, params, state, x):
        traces.append(1)
        return apply(params, state, x)[0]

    jitted = jax.jit(forward, static_argnums=0)
    for view in views:
        jitted(view.apply, view.params, view.state, inputs())
    assert len(traces) == 1


def test_orbax_round_trip(tmp_path):
    view = from_nnx(Net(key()))
    _, state = view.apply(view.params, view.state, inputs(), train=True)
    checkpointer = ocp.StandardCheckpointer()
    checkpointer.save(tmp_path / "step", (view.params, state))
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(tmp_path / "step", (view.params, view.state))
    checkpointer.close()
    assert_same(restored, (view.params, state))
    again, _ = view.apply(*restored, inputs(5), train=True)
    np.testing.assert_array_equal(again, view.apply(view.params, state, inputs(5), train=True)[0])


def test_the_way_back_to_a_module():
    view = from_nnx(Net(key()))
    doubled = jax.tree.map(lambda a: 2 * a, view.params)
    model = to_nnx(view, doubled, train=True)
    assert isinstance(model, Net)
    np.testing.assert_array_equal(
        model.layers[11].kernel[...], 2 * view.params["layers"][11]["kernel"]
    )
    assert model.drop.deterministic is False
    assert to_nnx(view).drop.deterministic is True


def test_shared_variables_appear_once_and_stay_shared():
    class Tied(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Linear(3, 3, rngs=rngs)
            self.unembed = self.embed

        def __call__(self, x):
            return self.unembed(self.embed(x))

    model = Tied(nnx.Rngs(0))
    view = from_nnx(model)
    assert list(view.params) == ["embed"]
    output, _ = view.apply(view.params, view.state, inputs())
    np.testing.assert_array_equal(output, model(inputs()))
    back = to_nnx(view)
    assert back.embed is back.unembed


def test_a_module_with_its_own_mode_is_reached():
    class Own(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.ones(()))
            self.mode = "unset"

        def set_view(self, deterministic: bool | None = None):
            if deterministic is not None:
                self.mode = "eval" if deterministic else "train"

        def __call__(self, x):
            return {"train": 10.0, "eval": 1.0}[self.mode] * self.w[...] * x

    view = from_nnx(Own())
    assert float(view.apply(view.params, view.state, jnp.float32(2.0), train=True)[0]) == 20.0
    assert float(view.apply(view.params, view.state, jnp.float32(2.0))[0]) == 2.0


def test_plain_arrays_and_missing_biases_are_fine():
    class Odd(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(3, 2, use_bias=False, rngs=rngs)
            self.table = nnx.data(jnp.arange(2.0))

        def __call__(self, x):
            return self.layer(x) + self.table[None]

    model = Odd(nnx.Rngs(0))
    view = from_nnx(model)
    assert list(view.params["layer"]) == ["kernel"]
    np.testing.assert_array_equal(view.state["table"], [0.0, 1.0])
    np.testing.assert_array_equal(view.apply(*view[1:], inputs())[0], model(inputs()))


def test_intermediates_are_dropped():
    class Sows(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(3, 3, rngs=rngs)

        def __call__(self, x):
            self.seen = nnx.Intermediate(x)
            return self.layer(x)

    model = Sows(nnx.Rngs(0))
    model(inputs())
    view = from_nnx(model)
    assert view.state == {}
    assert view.apply(view.params, view.state, inputs(), train=True)[1] == {}
    assert isinstance(model.seen, nnx.Intermediate)


def test_sharding_metadata_survives():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("x", None))
        model = nnx.Linear(8, 4, kernel_init=init, rngs=nnx.Rngs(0))
        view = from_nnx(model)
        assert view.params["kernel"].sharding.spec == jax.P("x", None)
        output, _ = jax.jit(view.apply)(view.params, view.state, inputs(shape=(2, 8)))
        np.testing.assert_allclose(output, model(inputs(shape=(2, 8))), rtol=1e-5, atol=1e-6)


def test_an_abstract_module_gives_an_abstract_view():
    view = from_nnx(nnx.eval_shape(lambda: Net(key())))
    assert view.params["layers"][3]["kernel"] == jax.ShapeDtypeStruct((3, 3), jnp.float32)
    concrete = from_nnx(Net(key()))
    output, _ = view.apply(concrete.params, concrete.state, inputs())
    np.testing.assert_array_equal(output, concrete.apply(*concrete[1:], inputs())[0])


def test_importing_the_adapters_does_not_import_flax():
    code = "import sys, wormjax.adapters; assert 'flax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_refuses_what_is_not_a_module():
    with pytest.raises(TypeError, match=r"use wormjax\.adapters\.from_linen"):
        from_nnx(linen.Dense(3))
    with pytest.raises(TypeError, match="List has no __call__"):
        from_nnx(nnx.List([nnx.Linear(2, 2, rngs=nnx.Rngs(0))]))


def test_refuses_a_module_without_parameters():
    with pytest.raises(ValueError, match=r"Dropout has no nnx\.Param"):
        from_nnx(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))


def test_refuses_a_variable_that_is_no_array():
    class Holds(nnx.Module):
        def __init__(self):
            self.gain = nnx.Param(2.0)

        def __call__(self, x):
            return x

    with pytest.raises(ValueError, match="variable gain of Holds holds a float, not an array"):
        from_nnx(Holds())


def test_refuses_a_forward_pass_that_sets_a_parameter():
    class Drifts(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.ones(3))

        def __call__(self, x):
            self.w[...] = self.w[...] * 2
            return x * self.w[...][None]

    view = from_nnx(Drifts())
    with pytest.raises(ValueError, match="sets the parameter w, which a view cannot return"):
        view.apply(view.params, view.state, inputs())


@pytest.mark.parametrize("what", ["makes", "deletes"])
def test_refuses_a_forward_pass_that_changes_the_structure(what):
    class Grows(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.ones(3))
            if what == "deletes":
                self.seen = nnx.Variable(jnp.zeros(3))

        def __call__(self, x):
            if what == "makes":
                self.seen = nnx.Variable(x)
            else:
                del self.seen
            return x * self.w[...][None]

    view = from_nnx(Grows())
    with pytest.raises(ValueError, match=f"Grows {what} the variable seen"):
        view.apply(view.params, view.state, inputs())


def test_refuses_trees_of_another_structure():
    """nnx.merge alone would take leaves by position: layer 10 in the place of layer 2."""
    view = from_nnx(Net(key()))
    as_strings = view.params | {"layers": {str(k): v for k, v in view.params["layers"].items()}}
    with pytest.raises(ValueError, match=r"which nnx\.restore_int_paths mends"):
        view.apply(as_strings, view.state, inputs())
    renamed = view.params | {"layers": view.params["layers"] | {12: view.params["layers"][11]}}
    with pytest.raises(
        ValueError, match=r"params has another structure.*: layers/12/bias is not in"
    ):
        view.apply(renamed, view.state, inputs())
    with pytest.raises(
        ValueError, match=r"state has another structure.*: drop/rngs/count is missing"
    ):
        to_nnx(view, view.params, {})


def test_refuses_to_go_back_from_another_view():
    view = from_linen(linen.Dense(2), linen.Dense(2).init(key(), inputs()))
    with pytest.raises(TypeError, match="does not come from from_nnx"):
        to_nnx(view)
    with pytest.raises(TypeError, match="does not come from from_nnx"):
        to_nnx(View(lambda params, state, x: (x, state), {}, {}))
