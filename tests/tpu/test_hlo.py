"""The checks on compiled programs see what they look for."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

HLO = runpy.run_path(str(Path(__file__).with_name("hlo.py")))
exchanges, holds_doubles, conditionals = (
    HLO[name] for name in ("exchanges", "holds_doubles", "conditionals")
)


def compiled(function, *axes):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    cut, out = (NamedSharding(mesh, PartitionSpec(*a)) for a in (("d",), axes))
    x = jax.ShapeDtypeStruct((1024,), jnp.float32, sharding=cut)
    return jax.jit(function, out_shardings=out).lower(x).compile().as_text()


def test_a_gather_shows_with_what_every_device_gets_and_a_count_as_one_entry():
    assert exchanges(compiled(lambda x: x)) == [("all-gather", 1024)]
    assert exchanges(compiled(jnp.sum)) == [("all-reduce", 1)]
    assert exchanges(compiled(jnp.sin, "d")) == []


def test_tuples_layouts_and_asynchronous_collectives_are_read():
    text = """
  %a.1 = (s32[]{:T(128)}, /*index=5*/f32[8,128]{1,0:T(8,128)}) all-reduce(%x, %y), channel_id=1
  ROOT %b = (bf16[4]{0}, bf16[4,16]{1,0}) all-gather-start(bf16[4]{0} %z), metadata={op_name="a=b"}
  %c = bf16[4,16]{1,0} all-gather-done(%b)
  %d = f32[99]{0} add(%all-gather, %all-reduce)
"""
    assert exchanges(text) == [("all-reduce", 1024), ("all-gather", 64)]
    with pytest.raises(ValueError, match="no shape in the collective"):
        exchanges("  %a = token all-to-all(%x)")


def test_float64_shows_in_either_text_as_array_or_scalar():
    with jax.enable_x64(True):
        array = jax.jit(lambda x: x.astype(jnp.float64)).lower(jnp.ones(3, jnp.float32))
        scalar = jax.jit(lambda x: x.astype(jnp.float64)).lower(jnp.float32(1))
    single = jax.jit(lambda x: x * 2).lower(jnp.ones(3, jnp.float32))
    for form in ("stablehlo", "hlo"):
        seen = [holds_doubles(p.as_text(form)) for p in (array, scalar, single)]
        arrays = [holds_doubles(p.as_text(form), scalars=False) for p in (array, scalar, single)]
        assert (seen, arrays) == ([True, True, False], [True, False, False])


def test_conditionals_are_counted():
    def twice(x):
        x = jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x)
        return jax.lax.cond(x[1] > 0, jnp.tanh, jnp.exp, x)

    text = jax.jit(twice).lower(jnp.ones(1024)).compile().as_text()
    assert conditionals(text) == 2
