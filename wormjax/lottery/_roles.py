"""What part a weight plays in a network, seen by tracing it: stem, head, depthwise, downsample, or none of these."""

from collections.abc import Callable
from typing import Any, Literal

import jax
from jaxtyping import PyTree

from wormjax.dst._kernels import kernel_like
from wormjax.structure._flat import Flat, Step, flatten
from wormjax.structure._trace import shape_of, trace
from wormjax.structure.rules import PROPAGATE

Role = Literal["stem", "head", "depthwise", "downsample", "inner", "none"]
_CONTRACTIONS = ("conv_general_dilated", "dot_general")


def layer_roles(
    apply: Callable[..., Any], params: PyTree, *inputs: PyTree, state: PyTree | None = None
) -> PyTree[str]:
    """Say of every parameter which part it plays.

    Args:
      apply: ``apply(params, *inputs)``, or ``apply(params, state, *inputs) -> (output, new_state)``.
      params: arrays or `jax.ShapeDtypeStruct`; nothing is computed.
      inputs: example inputs, likewise.
      state: likewise, where ``apply`` takes one.

    Returns:
      A tree of words: ``"stem"``, a kernel that reads the inputs before any other; ``"head"``, one whose output no
      other reads; ``"depthwise"``; ``"downsample"``, a 1x1 kernel whose output is added to that of a branch that
      begins on the same input; ``"inner"``, every other kernel, those inside loops included; ``"none"``, no kernel.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"a": jnp.ones((3, 4)), "b": jnp.ones(4), "c": jnp.ones((4, 4)), "d": jnp.ones((4, 2))}
      >>> layer_roles(lambda p, x: jnp.tanh(x @ p["a"] + p["b"]) @ p["c"] @ p["d"], params, jnp.ones((1, 3)))
      {'a': 'stem', 'b': 'none', 'c': 'inner', 'd': 'head'}
    """
    shapes = jax.eval_shape(lambda *xs: xs, params, state, inputs)
    traced = trace(apply, shapes[0], shapes[2], shapes[1], PROPAGATE)
    roles = _Roles(flatten(traced), len(traced.closed.jaxpr.invars)).run()
    leaves = zip(traced.names, jax.tree.leaves(shapes[0]), strict=True)
    words: list[Role] = []
    for k, (name, leaf) in enumerate(leaves):
        in_loop = k in roles and roles[k] == "none"
        words.append("inner" if in_loop and kernel_like(name, leaf) else roles.get(k, "none"))
    return jax.tree.unflatten(jax.tree.structure(shapes[0]), words)


def prunable_layers(
    apply: Callable[..., Any],
    params: PyTree,
    *inputs: PyTree,
    state: PyTree | None = None,
    stem: bool = False,
    head: bool = False,
    depthwise: bool = True,
    downsample: bool = True,
) -> PyTree[bool]:
    """Say which leaves iterative pruning may prune: the kernels, by the part that they play.

    Args:
      apply: as for `layer_roles`.
      params: likewise.
      inputs: likewise.
      state: likewise.
      stem: prune the first layer (the papers do in VGG, and nowhere else).
      head: prune the last one.
      depthwise: prune depthwise convolutions.
      downsample: prune 1x1 shortcuts.

    Returns:
      A tree of bools.

    Raises:
      ValueError: nothing is left to prune.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 4)), "c": jnp.ones((4, 2))}
      >>> prunable_layers(lambda p, x: x @ p["a"] @ p["b"] @ p["c"], params, jnp.ones((1, 3)))
      {'a': False, 'b': True, 'c': False}
    """
    switches = {"stem": stem, "head": head, "depthwise": depthwise, "downsample": downsample}
    switches |= {"inner": True, "none": False}
    roles = layer_roles(apply, params, *inputs, state=state)
    chosen = jax.tree.map(lambda role: switches[role], roles)
    if not any(jax.tree.leaves(chosen)):
        raise ValueError(
            "No kernel is left to prune. Switch stem=True or head=True on, or say yourself with wj.prunable."
        )
    return chosen


class _Roles:
    """Sets of contractions are integers, one bit each."""

    def __init__(self, flat: Flat, operands: int):
        self.flat = flat
        self.live = set(range(len(flat.params) + len(flat.state), operands))
        self.leaves: dict[int, set[int]] = {v: {k} for k, v in enumerate(flat.params)}
        self.near: dict[int, int] = {}  # contractions whose output reaches a value past no other
        self.before: dict[int, int] = {}  # all contractions that a value depends on
        self.reads: dict[int, int] = {}  # by contraction: what is near the image that it reads
        self.kernels: dict[int, tuple[Step, set[int]]] = {}
        self.inner: set[int] = set()

    def run(self) -> dict[int, Role]:
        for k, step in enumerate(self.flat.steps):
            self.visit(k, step)
        ends = 0
        for value in self.flat.outputs:
            ends |= self.near.get(value, 0) if value in self.live else 0
        found: dict[int, Role] = dict.fromkeys(self.inner, "none")
        shortcuts = self.shortcuts()
        for k, (step, leaves) in self.kernels.items():
            role: Role = "inner"
            if not self.before[step.outputs[0]] & ~(1 << k):
                role = "stem"
            elif ends >> k & 1:
                role = "head"
            elif self.is_depthwise(step):
                role = "depthwise"
            elif k in shortcuts:
                role = "downsample"
            found |= dict.fromkeys(leaves, role)
        return found

    def visit(self, k: int, step: Step) -> None:
        live = [v for v in step.inputs if v in self.live]
        still = [v for v in step.inputs if v not in self.live]
        below = set().union(*(self.leaves.get(v, set()) for v in still))
        is_layer = step.eqn.primitive.name in _CONTRACTIONS and bool(live) and bool(below)
        near = before = 0
        for v in live:
            near |= self.near.get(v, 0)
            before |= self.before.get(v, 0)
        if is_layer:
            self.kernels[k] = step, below
            self.reads[k] = near
            near, before = 1 << k, before | 1 << k
        elif live and any(name in step.eqn.params for name in ("jaxpr", "branches", "body_jaxpr")):
            self.inner |= below
        for out in step.outputs:
            if live:
                self.live.add(out)
                self.near[out], self.before[out] = near, before
            else:
                self.leaves[out] = below

    def shortcuts(self) -> set[int]:
        """1x1 kernels that are added to a branch which reads the same image."""
        found = set()
        for step in self.flat.steps:
            if step.eqn.primitive.name not in ("add", "add_any"):
                continue
            if not all(v in self.live for v in step.inputs):
                continue
            for one, other in (step.inputs, step.inputs[::-1]):
                for k in self.kernels:
                    beside = self.before[other] & ~(1 << k)
                    if (
                        self.near[one] >> k & 1
                        and self.is_pointwise(self.kernels[k][0])
                        and any(
                            beside >> e & 1 and self.reads[e] == self.reads[k] for e in self.kernels
                        )
                    ):
                        found.add(k)
        return found

    @staticmethod
    def is_pointwise(step: Step) -> bool:
        if step.eqn.primitive.name == "dot_general":
            return True
        kernel, numbers = shape_of(step.eqn.invars[1]), step.eqn.params["dimension_numbers"]
        return all(kernel[axis] == 1 for axis in numbers.rhs_spec[2:])

    @staticmethod
    def is_depthwise(step: Step) -> bool:
        if step.eqn.primitive.name == "dot_general":
            return False
        kernel, numbers = shape_of(step.eqn.invars[1]), step.eqn.params["dimension_numbers"]
        return step.eqn.params["feature_group_count"] > 1 and kernel[numbers.rhs_spec[1]] == 1
