import jax
import jax.numpy as jnp

from benchmarks._timing import compiled


def test_compiled_times_the_compilation_and_donates():
    ticks = iter([3.0, 10.0])
    x = jnp.arange(8.0)
    double, seconds = compiled(lambda x: x * 2, x, donate=(0,), clock=lambda: next(ticks))
    assert seconds == 7.0
    assert isinstance(double, jax.stages.Compiled)
    assert double(x).tolist() == [2.0 * i for i in range(8)]
    assert x.is_deleted()
