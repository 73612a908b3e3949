"""What everybody who reads a jaxpr knows of it: which equations are mere calls, and what they hold inside."""

from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

# The names under which JAX 0.10 to 0.12 binds a call that runs its jaxpr once.
CALLS = frozenset(
    {
        "checkpoint",
        "closed_call",
        "composite",
        "core_call",
        "custom_jvp_call",
        "custom_vjp_call",
        "custom_vjp_call_jaxpr",
        "custom_vmap_call",
        "jit",
        "pjit",
        "remat",
        "remat2",
        "xla_metadata_call",
    }
)


def scanned(eqn: JaxprEqn) -> tuple[int, int]:
    """Return how many of a scan's operands are constants, and how many are the carry."""
    if "num_carry" in eqn.params:
        return eqn.params["num_consts"], eqn.params["num_carry"]
    consts, carry, _ = eqn.params["ft_in"].unpack()
    return len(consts), len(carry)


def jaxprs(values: Any) -> Iterator[Jaxpr | ClosedJaxpr]:
    """Yield the jaxprs among an equation's parameters."""
    for value in values:
        if isinstance(value, Jaxpr | ClosedJaxpr):
            yield value
        elif isinstance(value, tuple | list):
            yield from jaxprs(value)


def opened(jaxpr: Jaxpr | ClosedJaxpr) -> Jaxpr:
    """Return a jaxpr without its constants."""
    # since JAX 0.11 both names mean one class, whose `jaxpr` is itself
    return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
