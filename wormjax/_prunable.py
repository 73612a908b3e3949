"""Which leaves may be pruned: rules over paths."""

import difflib
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from wormjax._paths import leaf_names

Rule = str | Callable[[str, Any], bool]


def prunable(
    params: PyTree,
    include: Rule | Sequence[Rule] = "",
    exclude: Rule | Sequence[Rule] = (),
    strict: bool = True,
) -> PyTree[bool]:
    """Say for each leaf whether it may be pruned.

    Rules are tried in order, those of ``exclude`` first, and the first that matches decides. A leaf that
    no rule matches, a leaf that is not floating and a scalar are never pruned.

    Args:
      params: any pytree of arrays.
      include: a rule or several. A string is a regular expression searched for in the leaf's path, such
        as ``"conv1/kernel"`` (anchor it with ``^`` and ``$``); anything else is called with path and leaf.
        The default, an empty expression, matches every leaf.
      exclude: rules for what must stay whole, tried first.
      strict: raise where a rule matched nothing; ``False`` warns instead.

    Returns:
      A tree of Python bools with the structure of ``params``.

    Raises:
      ValueError: a rule matched no leaf (with the paths nearest to it), a regular expression is
        malformed, or no leaf is left.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"conv": {"kernel": jnp.ones((3, 3))}, "head": {"kernel": jnp.ones((3, 2))}}
      >>> prunable(params, include="kernel$", exclude="^head/")
      {'conv': {'kernel': True}, 'head': {'kernel': False}}
    """
    rules = [(r, False) for r in _as_list(exclude)] + [(r, True) for r in _as_list(include)]
    tests = [(_as_test(rule), verdict) for rule, verdict in rules]
    hits = [0] * len(rules)
    verdicts = []
    names, leaves = leaf_names(params), jax.tree.leaves(params)
    for name, leaf in zip(names, leaves, strict=True):
        matched = [i for i, (test, _) in enumerate(tests) if test(name, leaf)]
        for i in matched:
            hits[i] += 1
        may_rank = jnp.ndim(leaf) > 0 and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        verdicts.append(bool(matched) and tests[matched[0]][1] and may_rank)
    for (rule, _), count in zip(rules, hits, strict=True):
        if leaves and count == 0:
            _report(rule, names, strict)
    if leaves and not any(verdicts):
        message = f"No leaf is prunable under these rules; the leaves are {_listed(names)}."
        if strict:
            raise ValueError(message)
        warnings.warn(message, stacklevel=2)
    return jax.tree.unflatten(jax.tree.structure(params), verdicts)


def _as_list(rules: Rule | Sequence[Rule]) -> list[Rule]:
    return [rules] if isinstance(rules, str) or callable(rules) else list(rules)


def _as_test(rule: Rule) -> Callable[[str, Any], bool]:
    if not isinstance(rule, str):
        return rule
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ValueError(f"The rule {rule!r} is not a regular expression: {error}.") from None
    return lambda name, _: pattern.search(name) is not None


def _report(rule: Rule, names: list[str], strict: bool) -> None:
    near = difflib.get_close_matches(rule, names, n=3, cutoff=0.3) if isinstance(rule, str) else []
    told = f"the nearest paths are {_listed(near)}" if near else f"the paths are {_listed(names)}"
    message = f"The rule {rule!r} matches no leaf; {told}."
    if strict:
        raise ValueError(message)
    warnings.warn(message, stacklevel=3)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
