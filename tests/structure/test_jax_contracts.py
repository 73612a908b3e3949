"""What JAX and Flax emit, as far as the rules rely on it; run on the oldest and on the newest supported JAX."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from wormjax.structure._scopes import jaxpr_of
from wormjax.structure._trace import trace
from wormjax.structure.rules import EVALUATE, PROPAGATE

X, IMAGE, TOKENS = (
    jax.ShapeDtypeStruct((2, 8, 6), np.float32),
    jax.ShapeDtypeStruct((2, 8, 8, 6), np.float32),
    jax.ShapeDtypeStruct((2, 8), np.int32),
)


def linen(module, *inputs):
    """A linen module as a traced function of its variables."""
    variables = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    mutable = [name for name in variables if name != "params"]
    return trace(
        lambda v, *x: module.apply(v, *x, mutable=mutable), variables, inputs, None, PROPAGATE
    )


def of_nnx(make, *inputs):
    """An nnx module as a traced function of its state."""
    definition, state = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))

    def apply(state, *inputs):
        module = nnx.merge(definition, state)
        return module(*inputs), nnx.state(module)

    return trace(apply, state, inputs, None, PROPAGATE)


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.relu(nn.Dense(6)(x)), None


class LinenStack(nn.Module):
    @nn.compact
    def __call__(self, x):
        stack = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return stack()(x, None)[0]


class Stack(nnx.Module):
    def __init__(self, rngs):
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def layers(rngs):
            return nnx.Linear(6, 6, rngs=rngs)

        self.layers = layers(rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def forward(x, layer):
            return nnx.relu(layer(x))

        return forward(x, self.layers)


class Rematerialised(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(6, 6, rngs=rngs)

    def __call__(self, x):
        return nnx.remat(lambda layer, x: nnx.gelu(layer(x)))(self.layer, x)


NORM = "add div mul reduce_sum reshape rsqrt square sub"
ATTENTION = "add broadcast_in_dim div dot_general exp max reduce_max reduce_sum reshape"
CELL = "add broadcast_in_dim dot_general logistic mul reshape scan tanh transpose"
SCANNED = "add broadcast_in_dim custom_jvp_call dot_general gt jit max reshape scan select_n"

# layer -> how it is traced, and every primitive that it emits, those inside its derivative rules included
LAYERS = {
    "linen Dense": (lambda: linen(nn.Dense(5), X), "add dot_general reshape"),
    "linen Conv": (lambda: linen(nn.Conv(5, (3, 3)), IMAGE), "add conv_general_dilated reshape"),
    "linen BatchNorm": (
        lambda: linen(nn.BatchNorm(use_running_average=False), IMAGE),
        f"{NORM} broadcast_in_dim max",
    ),
    "linen BatchNorm, evaluated": (
        lambda: linen(nn.BatchNorm(use_running_average=True), IMAGE),
        "add broadcast_in_dim mul reshape rsqrt sub",
    ),
    "linen LayerNorm": (lambda: linen(nn.LayerNorm(), X), f"{NORM} broadcast_in_dim max"),
    "linen GroupNorm": (lambda: linen(nn.GroupNorm(3), IMAGE), f"{NORM} broadcast_in_dim max"),
    "linen RMSNorm": (lambda: linen(nn.RMSNorm(), X), f"{NORM} broadcast_in_dim"),
    "linen MultiHeadDotProductAttention": (
        lambda: linen(nn.MultiHeadDotProductAttention(2, qkv_features=6), X, X),
        f"{ATTENTION} convert_element_type sqrt stop_gradient sub transpose",
    ),
    "linen Embed": (
        lambda: linen(nn.Embed(11, 6), TOKENS),
        "add broadcast_in_dim gather jit lt select_n",
    ),
    "linen GRUCell": (lambda: linen(nn.RNN(nn.GRUCell(7)), X), f"{CELL} random_seed sub"),
    "linen OptimizedLSTMCell": (
        lambda: linen(nn.RNN(nn.OptimizedLSTMCell(7)), X),
        f"{CELL} concatenate random_seed random_split slice split squeeze",
    ),
    "linen scan": (lambda: linen(LinenStack(), X), SCANNED),
    "linen remat": (lambda: linen(nn.remat(nn.Dense)(5), X), "add dot_general remat2 reshape"),
    "nnx Linear": (
        lambda: of_nnx(lambda r: nnx.Linear(6, 5, rngs=r), X),
        "add dot_general reshape",
    ),
    "nnx Conv": (
        lambda: of_nnx(lambda r: nnx.Conv(6, 5, (3, 3), rngs=r), IMAGE),
        "add conv_general_dilated reshape",
    ),
    "nnx BatchNorm": (
        lambda: of_nnx(lambda r: nnx.BatchNorm(6, rngs=r), IMAGE),
        f"{NORM} max stop_gradient",
    ),
    "nnx BatchNorm, evaluated": (
        lambda: of_nnx(lambda r: nnx.BatchNorm(6, use_running_average=True, rngs=r), IMAGE),
        "add mul reshape rsqrt sub",
    ),
    "nnx LayerNorm": (lambda: of_nnx(lambda r: nnx.LayerNorm(6, rngs=r), X), f"{NORM} max"),
    "nnx GroupNorm": (
        lambda: of_nnx(lambda r: nnx.GroupNorm(6, 3, rngs=r), IMAGE),
        f"{NORM} broadcast_in_dim max",
    ),
    "nnx RMSNorm": (
        lambda: of_nnx(lambda r: nnx.RMSNorm(6, rngs=r), X),
        f"{NORM} broadcast_in_dim",
    ),
    "nnx MultiHeadAttention": (
        lambda: of_nnx(lambda r: nnx.MultiHeadAttention(2, 6, decode=False, rngs=r), X),
        f"{ATTENTION} mul stop_gradient sub transpose",
    ),
    "nnx Embed": (
        lambda: of_nnx(lambda r: nnx.Embed(11, 6, rngs=r), TOKENS),
        "add broadcast_in_dim gather jit lt select_n",
    ),
    "nnx GRUCell": (
        lambda: of_nnx(lambda r: nnx.RNN(nnx.GRUCell(6, 7, rngs=r)), X),
        f"{CELL} random_fold_in split sub",
    ),
    "nnx OptimizedLSTMCell": (
        lambda: of_nnx(lambda r: nnx.RNN(nnx.OptimizedLSTMCell(6, 7, rngs=r)), X),
        f"{CELL} random_fold_in split",
    ),
    "nnx scan": (lambda: of_nnx(Stack, X), SCANNED),
    "nnx remat": (
        lambda: of_nnx(Rematerialised, X),
        "add dot_general integer_pow mul remat2 reshape tanh",
    ),
}


def all_scopes(scope, seen):
    """Every scope of a trace once; a derivative rule that calls its function shares its scopes."""
    if scope not in seen:
        seen[scope] = None
        for inner in (one for several in scope.inner.values() for one in several):
            all_scopes(inner, seen)
    return list(seen)


def emitted(traced):
    """Names of all primitives of a trace. JAX 0.12 takes an array apart by one, and 0.10 by two."""
    scopes = all_scopes(traced.scope, {})
    names = {eqn.primitive.name for scope in scopes for eqn in jaxpr_of(scope).eqns}
    return names - {"unstack"} | ({"slice", "squeeze"} if "unstack" in names else set())


@pytest.mark.parametrize("layer", LAYERS)
def test_primitives_of_a_layer(layer):
    make, expected = LAYERS[layer]
    traced = make()
    found = emitted(traced)
    without = {name for name in found if name not in PROPAGATE or name not in EVALUATE}
    assert not without, f"{layer} uses {sorted(without)}, which no rule knows"
    assert found == set(expected.split())
    assert traced.diagnostics == []


def only(function, *operands, name):
    """The parameters of the one equation of this name."""
    [eqn] = [e for e in jax.make_jaxpr(function)(*operands).eqns if e.primitive.name == name]
    return eqn.params


ONE, TWO = jnp.ones((2, 3)), jnp.ones((3, 3))

# primitive -> the parameters that its rule reads, and a function that emits it
PARAMS = {
    "dot_general": ("dimension_numbers", lambda: only(jnp.matmul, ONE, TWO, name="dot_general")),
    "conv_general_dilated": (
        "batch_group_count dimension_numbers feature_group_count lhs_dilation padding window_strides",
        lambda: only(
            lambda x: lax.conv(x, jnp.ones((2, 3, 1, 1)), (1, 1), "SAME"),
            jnp.ones((1, 3, 4, 4)),
            name="conv_general_dilated",
        ),
    ),
    "reduce_sum": ("axes", lambda: only(jnp.sum, ONE, name="reduce_sum")),
    "broadcast_in_dim": (
        "broadcast_dimensions shape",
        lambda: only(lambda x: x[None], ONE, name="broadcast_in_dim"),
    ),
    "reshape": ("dimensions new_sizes", lambda: only(jnp.ravel, ONE, name="reshape")),
    "transpose": ("permutation", lambda: only(jnp.transpose, ONE, name="transpose")),
    "jit": ("jaxpr", lambda: only(jax.jit(jnp.sin), ONE, name="jit")),
    "remat2": (
        "jaxpr policy prevent_cse",
        lambda: only(jax.checkpoint(jnp.sin), ONE, name="remat2"),
    ),
    "while": (
        "body_jaxpr body_nconsts cond_jaxpr cond_nconsts",
        lambda: only(
            lambda x: lax.while_loop(lambda c: c.sum() < 9, lambda c: c + c, x), ONE, name="while"
        ),
    ),
    "cond": (
        "branches",
        lambda: only(lambda x: lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x), ONE, name="cond"),
    ),
    "custom_jvp_call": (
        "call_jaxpr jvp_jaxpr_fun num_consts",
        lambda: only(jax.nn.relu, ONE, name="custom_jvp_call"),
    ),
}


@pytest.mark.parametrize("primitive", PARAMS)
def test_parameters_of_a_primitive(primitive):
    expected, params = PARAMS[primitive]
    assert set(expected.split()) <= set(params())


def test_parameters_of_a_scan():
    def step(carry, x):
        return carry + x @ TWO, x

    params = only(lambda x: lax.scan(step, x[0], x), jnp.ones((4, 2, 3)), name="scan")
    assert {"jaxpr", "length", "reverse", "unroll"} <= set(params)
    if jax.__version_info__ < (0, 12):
        assert (params["num_consts"], params["num_carry"]) == (1, 1)
    else:
        assert [len(group) for group in params["ft_in"].unpack()] == [1, 1, 1]


def test_a_function_with_a_rule_can_be_bound_again_and_its_rule_has_a_source():
    @jax.custom_vjp
    def function(x):
        return x

    def forward(x):
        return x, 2.0 * x

    function.defvjp(forward, lambda kept, g: (g * kept,))
    [eqn] = jax.make_jaxpr(function)(ONE).eqns
    assert {"call_jaxpr", "fwd_jaxpr_thunk", "num_consts"} <= set(eqn.params)
    assert "test_jax_contracts.py" in eqn.params["fwd_jaxpr_thunk"].debug_info.func_src_info

    params = eqn.primitive.get_bind_params(eqn.params)
    y, pull_back = jax.vjp(lambda x: eqn.primitive.bind(x, **params)[0], ONE)
    stored, structure = jax.tree.flatten(pull_back)  # what is stored, and how it is used
    assert [leaf.shape for leaf in stored] == [(2, 3)]
    again = jax.tree.unflatten(structure, [3.0 * leaf for leaf in stored])
    np.testing.assert_array_equal(again(y)[0], 6.0 * ONE)
