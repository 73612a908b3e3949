"""Programs are counted, also those that no new trace announces."""

import jax
import jax.numpy as jnp

from tests.compiling import counted


def test_a_program_a_shape_and_a_device():
    double, programs = counted(lambda x: x * 2)
    x = jnp.ones(3)
    double(x), double(x + 1)
    assert len(programs) == 1
    double(jax.device_put(x, jax.devices()[1]))  # the same trace
    assert len(programs) == 2
    double(jnp.ones(4))
    assert len(programs) == 3


def test_functions_of_one_name_are_told_apart():
    (_, never), (other, once) = counted(jnp.sin), counted(jnp.sin)
    other(jnp.ones(2))
    assert (len(never), len(once)) == (0, 1)
