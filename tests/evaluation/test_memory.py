"""Peak memory against hand counts: the sum of what lives at the worst equation."""

import functools

import jax
import jax.numpy as jnp
import pytest

from wormjax.evaluation import Memory, parameters, peak_memory

KB = jax.ShapeDtypeStruct((256,), jnp.float32)  # 1024 bytes


def twice_in_jit(x):
    sine = jax.jit(jnp.sin)
    return sine(sine(sine(x)))


def branching(x):
    y = jnp.sin(x)
    return y + jnp.cos(y)


@jax.custom_jvp
def with_rule(x):
    return jnp.sin(jnp.sin(x))


with_rule.defjvp(lambda primals, tangents: (with_rule(*primals), tangents[0]))


@pytest.mark.parametrize(
    ("fn", "kilobytes", "outputs"),
    [
        (jnp.sin, 1, 1),
        (lambda x: jnp.sin(jnp.sin(jnp.sin(x))), 2, 1),  # operand and result
        (twice_in_jit, 2, 1),
        (with_rule, 2, 1),
        (jax.checkpoint(lambda x: jnp.sin(jnp.sin(jnp.sin(x)))), 2, 1),
        (branching, 3, 1),  # both terms and their sum
        (lambda x: (jnp.sin(x), jnp.cos(x), jnp.tan(x)), 3, 3),
        (lambda x: (x, jnp.sin(x)), 1, 1),  # an argument that is handed through takes nothing
        (
            lambda x: (jnp.sin(x), jnp.cos(x))[0],
            2,
            1,
        ),  # what nobody reads is there when it is computed
        (lambda x: jnp.outer(x, x), 256 + 2, 256),  # both operands are reshaped first
    ],
)
def test_chains_and_branches(fn, kilobytes, outputs):
    assert peak_memory(fn, KB) == Memory(1024, 1024 * kilobytes, 1024 * outputs)


def test_dtypes_and_constants():
    x = jax.ShapeDtypeStruct((8,), jnp.bfloat16)
    table = jnp.arange(100, dtype=jnp.int32)
    assert peak_memory(lambda x: x > 0, x) == Memory(16, 8, 8)
    assert peak_memory(lambda x: (-x, table[3]), x).arguments == 16 + 400
    assert peak_memory(jax.random.bits, jax.eval_shape(jax.random.key, 0)).outputs == 4


def test_a_scan():
    """Results 16 + 80, a slice of 16, and in the body the sine, the product and the sum: the sine has gone."""

    def step(carry, x):
        y = jnp.sin(x) * carry
        return carry + y, y

    carry, xs = jax.ShapeDtypeStruct((4,), "float32"), jax.ShapeDtypeStruct((5, 4), "float32")
    found = peak_memory(lambda c, xs: jax.lax.scan(step, c, xs), carry, xs)
    assert found == Memory(16 + 80, 16 + 80 + 16 + 2 * 16, 16 + 80)


def test_a_while_and_a_cond():
    def loop(x):
        return jax.lax.while_loop(lambda c: jnp.sum(jnp.sin(c)) < 1, lambda c: c + jnp.sin(c), x)

    assert peak_memory(loop, KB) == Memory(1024, 1024 + 2048, 1024)

    def branch(small, x):
        return jax.lax.cond(small, lambda: x, lambda: branching(x))

    # beside the branches lies the index that chooses one, an int32
    found = peak_memory(branch, jax.ShapeDtypeStruct((), bool), KB)
    assert found == Memory(1025, 4 + 3072, 1024)


def test_a_shard_map_takes_it_on_every_device():
    mesh = jax.make_mesh((4,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    fn = jax.shard_map(branching, mesh=mesh, in_specs=jax.P("a"), out_specs=jax.P("a"))
    assert peak_memory(fn, KB) == Memory(1024, 3072, 1024)


def deep(x, layer):
    for _ in range(16):
        x = layer(x)
    return jnp.sum(x)


def test_training_keeps_what_the_backward_pass_needs_and_remat_less():
    def layer(x):
        return jnp.sin(jnp.cos(jnp.sin(x)))

    kept = peak_memory(jax.grad(functools.partial(deep, layer=layer)), KB).activations
    again = peak_memory(jax.grad(functools.partial(deep, layer=jax.checkpoint(layer))), KB)
    alone = peak_memory(functools.partial(deep, layer=layer), KB).activations
    assert alone == 2048
    assert kept >= 3 * 16 * 1024  # one array for each of the 48 sines and cosines
    assert 16 * 1024 <= again.activations <= (16 + 8) * 1024  # one for each layer


def test_the_compiler_agrees_on_the_order_of_magnitude():
    """Matrix products are not fused with each other: XLA plans between half and twice of what the rule says.

    It does where it plans the buffers itself; a sum behind them is one library call on CPU that tells of none.
    """

    def network(weights, x):
        for w in weights:
            x = jax.nn.relu(x @ w)
        return x

    def gradient(weights, x):
        return jax.grad(lambda weights: jnp.sum(network(weights, x) ** 2))(weights)

    sizes = ((64, 256), (256, 256), (256, 128))
    weights = [jax.ShapeDtypeStruct(s, jnp.float32) for s in sizes]
    x = jax.ShapeDtypeStruct((512, 64), jnp.float32)
    for fn in (network, gradient):
        found = peak_memory(fn, weights, x)
        planned = jax.jit(fn).lower(weights, x).compile().memory_analysis()
        assert found.arguments == planned.argument_size_in_bytes
        needed = planned.temp_size_in_bytes + planned.output_size_in_bytes
        assert 0.5 < found.activations / needed < 2


def test_parameters_are_entries():
    tree = {"kernel": jax.ShapeDtypeStruct((2**40, 2**30), jnp.float32), "bias": jnp.ones(3)}
    assert parameters(tree) == 2**70 + 3
    assert parameters({}) == 0
