"""The Pallas kernel, interpreted, against NumPy and against the products of XLA; and that compilers take it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import wormjax as wj
from wormjax.lottery import RegroupSettings, block_apply, regroup
from wormjax.lottery._pallas_product import tiled_product


def _draw(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("m", "k", "n"), [(3, 5, 1), pytest.param(130, 260, 17, marks=pytest.mark.slow)]
)
def test_values_and_both_derivatives(m, k, n):
    """Less than a tile, and several tiles with a rest; of every axis the padding must not be seen."""
    x, w, g = _draw(m, k), _draw(k, n), _draw(m, n)

    @jax.jit
    def run(x, w, g):
        y, back = jax.vjp(lambda x, w: tiled_product(x, w, jnp.float32), x, w)
        return (y, *back(g))

    wide = [a.astype(np.float64) for a in (x, w, g)]
    expected = (wide[0] @ wide[1], wide[2] @ wide[1].T, wide[0].T @ wide[2])
    for have, want in zip(run(x, w, g), expected, strict=True):
        assert have.shape == want.shape
        np.testing.assert_allclose(np.asarray(have), want, rtol=1e-5, atol=1e-4)


def test_half_precision_is_summed_in_float32():
    """In bfloat16 a sum of ones stands still at 256."""
    ones = np.ones((1, 300), jnp.bfloat16)
    found = jax.jit(lambda x, w: tiled_product(x, w, jnp.float32))(ones, ones.T)
    assert found.dtype == jnp.float32
    assert float(found[0, 0]) == 300


def test_operands_that_are_no_floats_are_refused():
    with pytest.raises(TypeError, match="and a block has int32"):
        jax.eval_shape(
            lambda x: tiled_product(x, x, jnp.float32), jax.ShapeDtypeStruct((2, 2), "int32")
        )


PLACES = ["tpu", "gpu"] if jax.__version_info__ < (0, 11) else ["tpu"]  # later, a GPU must be named


@pytest.mark.parametrize("place", PLACES)
def test_it_lowers_for_accelerators(place):
    """The compiler's front end takes it, with its derivatives; nothing runs."""
    allowed = [
        export.DisabledSafetyCheck.custom_call(name)
        for name in ("tpu_custom_call", "__gpu$xla.gpu.triton")
    ]

    def loss(x, w):
        return tiled_product(x, w, jnp.float32, None, place).sum()

    shapes = [jax.ShapeDtypeStruct(s, "float32") for s in ((20, 300), (300, 7))]
    found = export.export(
        jax.jit(jax.grad(loss, (0, 1))),
        platforms=["cuda" if place == "gpu" else place],
        disabled_checks=allowed,
    )(*shapes)
    name = "xla.gpu.triton" if place == "gpu" else "tpu_custom_call"
    assert found.mlir_module().count(name) >= 2


@pytest.mark.parametrize(
    "granularity", ["input_channel", pytest.param("element", marks=pytest.mark.slow)]
)
def test_a_network_runs_on_it_as_on_xla(granularity):
    """A convolution of stride 2 on an odd map, and a dense layer with its weight on the left."""
    params = {"a": _draw(3, 3, 3, 6), "b": _draw(3, 6)}
    x = _draw(2, 5, 5, 3)

    def apply(p, x):
        y = jax.lax.conv_general_dilated(
            x, p["a"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        y = jnp.tanh(y).mean(axis=(1, 2))
        return jax.lax.dot_general(p["b"], y, (((1,), (1,)), ((), ())))

    groups = wj.find_groups(apply, params, x)
    masks = {k: jnp.asarray(p < -0.5) for k, p in params.items()}
    found = regroup(groups, masks, settings=RegroupSettings(granularity=granularity, parts=2))
    masked = wj.apply_masks(params, found.masks)
    plain, kernel = (
        block_apply(groups, found.blocks, masked, products=p) for p in ("xla", "pallas_interpreted")
    )
    blocks = sum(len(kernel.params[name]) for name in "ab")
    assert blocks > 2

    def both(ticket):
        return jax.jit(jax.value_and_grad(lambda p: jnp.sum(ticket.apply(p, x) ** 2)))(
            ticket.params
        )

    program = str(jax.make_jaxpr(kernel.apply)(kernel.params, x))
    assert program.count("pallas_call[") == blocks
    assert "pallas_call[" not in str(jax.make_jaxpr(plain.apply)(plain.params, x))
    for have, want in zip(*map(jax.tree.leaves, map(both, (kernel, plain))), strict=True):
        np.testing.assert_allclose(np.asarray(have), np.asarray(want), rtol=1e-4, atol=1e-5)
    assert kernel.macs == plain.macs
    with pytest.raises(ValueError, match="count that function apart"):
        wj.evaluation.macs(kernel.apply, kernel.params, x)


def test_without_an_accelerator_the_kernel_is_refused(monkeypatch):
    params = {"a": jnp.ones((2, 2)), "b": jnp.ones((2, 2))}
    groups = wj.find_groups(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((1, 2)))
    blocks = regroup(groups, jax.tree.map(lambda x: x > 0, params)).blocks
    with pytest.raises(ValueError, match="needs a GPU or a TPU, and JAX runs on 'cpu'"):
        block_apply(groups, blocks, params, products="pallas")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert block_apply(groups, blocks, params, products="pallas").apply.kernel == "gpu"
