"""The residual branches of a network that can be removed whole."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, no_type_check

import jax
from jaxtyping import PyTree

from wormjax._table import as_text
from wormjax.structure._program import Program, program_of
from wormjax.structure._residual import Branch, Residual, find_residual

Rule = Literal["identity", "sibling"]
Level = Literal["branch", "layer"]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A block that can go: one residual branch, several of one layer, or a step of a scan over stacked layers.

    Attributes:
      name: common path of the parameters that only it reads; of a step of a scan, with the step in brackets.
      branches: names of the branches that it stands for.
      stage: number of its stage, a run of blocks whose stream has one shape.
      shape: of the stream that it is added to.
      paths: of the parameters that go with it; of a step of a scan, one row of each goes.
      step: which step of a scan it is, or None.
      parameters: number of parameter entries that go with it.
      macs: multiply-accumulates that go with it on the example inputs.
    """

    name: str
    branches: tuple[str, ...]
    stage: int
    shape: tuple[int, ...]
    paths: tuple[str, ...]
    step: int | None
    parameters: int
    macs: int


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """All candidates of a function.

    Attributes:
      candidates: in the order in which they are added to the stream.
      fixed: for each stage the number of its blocks that cannot go.
      apply: the function.
      shapes: abstract parameters.
      state_shapes: abstract state, or None.
      inputs: abstract example inputs.
      rule: what was asked for.
      level: what was asked for.
      program: its trace.
      residual: what was found in it.
    """

    candidates: tuple[Candidate, ...]
    fixed: dict[int, int]
    apply: Callable[..., Any]
    shapes: PyTree
    state_shapes: PyTree | None
    inputs: tuple[Any, ...]
    rule: Rule
    level: Level
    program: Program = dataclasses.field(repr=False)
    residual: Residual = dataclasses.field(repr=False)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.candidates)

    def __len__(self) -> int:
        return len(self.candidates)

    def __getitem__(self, name: str) -> Candidate:
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        raise KeyError(f"there is no candidate {name!r}; there are {self.names}")

    @property
    def names(self) -> list[str]:
        """Name of every candidate."""
        return [c.name for c in self.candidates]

    @functools.cached_property
    def branches(self) -> dict[str, Branch]:
        """The branches of the trace, by name."""
        return {b.name: b for b in self.residual.branches}

    def blocks(self) -> dict[int, int]:
        """For each stage the number of its blocks, those that cannot go among them."""
        counts = dict(self.fixed)
        for c in self.candidates:
            counts[c.stage] = counts.get(c.stage, 0) + 1
        return counts

    def per_stage(self, names: Iterable[str]) -> dict[int, int]:
        """How many of these candidates lie in each stage."""
        counts = dict.fromkeys(self.blocks(), 0)
        for name in names:
            counts[self[name].stage] += 1
        return counts

    def explain(self) -> str:
        """Say what can go, stage by stage, with what goes with it, and what cannot."""
        head = ("candidate", "stage", "stream", "parameters", "MACs")
        rows = [
            (c.name, str(c.stage), "x".join(map(str, c.shape)), f"{c.parameters:,}", f"{c.macs:,}")
            for c in self.candidates
        ]
        notes = [
            f"stage {stage}: {count} more whose stream is another one behind it, or that rule= spares"
            for stage, count in sorted(self.fixed.items())
        ]
        return as_text(head, rows, {1, 3, 4}, [*notes, *self.residual.refused])


@no_type_check  # a wrong word is told in words
def candidates(
    apply: Callable[..., Any],
    params: PyTree,
    *inputs: PyTree,
    state: PyTree | None = None,
    rule: Rule = "identity",
    level: Level = "branch",
) -> Candidates:
    r"""Find every residual branch that can be removed whole.

    A branch is what is added to its own ancestor of the same shape,

    .. math:: z = x + f(x; \theta), \qquad \text{without it } z = x,

    wherever it stands in the function's jaxpr. A block with a projection beside it is none, nor is anything of a
    plain network. A ``jax.lax.scan`` over layers stacked on axis 0 whose carry is such a stream has its steps as
    candidates (each the whole layer). The function is traced with abstract values: nothing is computed or compiled.

    Args:
      apply: ``apply(params, *inputs)``, or ``apply(params, state, *inputs) -> (output, new_state)`` where
        ``state`` is given. Any JAX function.
      params: pytree of arrays or `jax.ShapeDtypeStruct`.
      inputs: example inputs, arrays or `jax.ShapeDtypeStruct`.
      state: batch statistics, caches.
      rule: ``"identity"``, the paper's: every block without a projection. ``"sibling"``: not the first block of a
        stage either, as in the code of the same author's other papers.
      level: ``"branch"``: attention and feed-forward branch apart. ``"layer"``: neighbouring branches of different
        shapes that stand under one path of the parameters (``blocks/3``) go together.

    Returns:
      `Candidates`; print ``found.explain()``.

    Raises:
      ValueError: there is none; the message says what was looked for.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from wormjax import layers
      >>> params = [{"up": jnp.ones((3, 8)), "down": jnp.ones((8, 3))} for _ in range(2)]
      >>> def apply(params, x):
      ...     for p in params:
      ...         x = x + jax.nn.relu(x @ p["up"]) @ p["down"]
      ...     return x
      >>> layers.candidates(apply, params, jnp.ones((4, 3))).names
      ['0', '1']

    References:
      Jordao et al., `When Layers Play the Lottery, all Tickets Win at Initialization
      <https://arxiv.org/abs/2301.10835>`_, 2023; its authors published no code
    """
    if rule not in ("identity", "sibling"):
        raise ValueError(f"rule={rule!r} is neither 'identity' nor 'sibling'.")
    if level not in ("branch", "layer"):
        raise ValueError(f"level={level!r} is neither 'branch' nor 'layer'.")
    shapes = jax.eval_shape(lambda *xs: xs, params, state, inputs)
    program = program_of(apply, shapes[0], shapes[2], shapes[1])
    residual = find_residual(program)
    fixed: dict[int, int] = {}
    for _, stage in residual.fixed:
        fixed[stage] = fixed.get(stage, 0) + 1
    found = _blocks(residual, program, level)
    if rule == "sibling":
        first = _first_of_stages(residual)
        spared = [c for c in found if set(c.branches) & first]
        found = [c for c in found if c not in spared]
        for c in spared:
            fixed[c.stage] = fixed.get(c.stage, 0) + 1
    if not found:
        told = "; ".join(residual.refused) or (
            "A branch is what is added to its own ancestor of the same shape; a plain network, such as a VGG, has none"
        )
        told = told[0].upper() + told[1:]
        raise ValueError(f"This function has no residual branch that can be removed. {told}.")
    return Candidates(
        tuple(found), fixed, apply, shapes[0], shapes[1], shapes[2], rule, level, program, residual
    )


def _first_of_stages(residual: Residual) -> set[str]:
    """Names of the branches with which a stage begins."""
    places = [(k, stage, "") for k, stage in residual.fixed]
    places += [(b.sum, b.stage, b.name) for b in residual.branches if not b.step]
    first: dict[int, str] = {}
    for _, stage, name in sorted(places):
        first.setdefault(stage, name)
    return set(first.values()) - {""}


def _blocks(residual: Residual, program: Program, level: Level) -> list[Candidate]:
    branches = list(residual.branches)
    if level == "branch":
        return [_candidate([b], program) for b in branches]
    joined: list[list[Branch]] = [branches[:1]] if branches else []
    depths = [_shared(a, b, program) for a, b in itertools.pairwise(branches)]
    for k, (before, after) in enumerate(itertools.pairwise(branches)):
        around = [depths[j] for j in (k - 1, k + 1) if 0 <= j < len(depths)]
        closer = depths[k] > min(around, default=0)
        alike = _signature(before, program) == _signature(after, program)
        if before.stage == after.stage and before.step is None and closer and not alike:
            joined[-1].append(after)
        else:
            joined.append([after])
    return [_candidate(group, program) for group in joined]


def _candidate(group: list[Branch], program: Program) -> Candidate:
    name = group[0].name
    if len(group) > 1:
        depth = min(_shared(a, b, program) for a, b in itertools.pairwise(group))
        name = "/".join(program.names[group[0].reads[0]].split("/")[:depth])
    return Candidate(
        name=name,
        branches=tuple(b.name for b in group),
        stage=group[0].stage,
        shape=group[0].shape,
        paths=tuple(program.names[p] for b in group for p in b.owned),
        step=group[0].step,
        parameters=sum(b.parameters for b in group),
        macs=sum(b.macs for b in group),
    )


def _shared(a: Branch, b: Branch, program: Program) -> int:
    """How many parts of their paths all parameters of two branches have in common."""
    paths = [program.names[p].split("/") for p in (*(a.owned or a.reads), *(b.owned or b.reads))]
    depth = 0
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        depth += 1
    return depth


def _signature(branch: Branch, program: Program) -> tuple[Any, ...]:
    return tuple(sorted(program.params[p].shape for p in branch.owned or branch.reads))
