"""What part a weight plays in a network, seen by tracing it: stem, head, depthwise, downsample, or none of these."""

from collections.abc import Callable
from typing import Any, Literal

import jax
from jaxtyping import PyTree

from wormjax.dst._kernels import kernel_like
from wormjax.lottery._layers import Layers
from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE

Role = Literal["stem", "head", "depthwise", "downsample", "inner", "none"]


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
    roles = _roles(Layers(traced))
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


def _roles(layers: Layers) -> dict[int, Role]:
    """The part of each parameter that is in a layer, or goes into a loop."""
    ends = 0
    for value in layers.flat.outputs:
        ends |= layers.near.get(value, 0)
    found: dict[int, Role] = dict.fromkeys(layers.looped, "none")
    shortcuts = _shortcuts(layers)
    for k, layer in layers.layers.items():
        role: Role = "inner"
        if not layers.before[layers.flat.steps[k].outputs[0]] & ~(1 << k):
            role = "stem"
        elif ends >> k & 1:
            role = "head"
        elif layer.is_depthwise:
            role = "depthwise"
        elif k in shortcuts:
            role = "downsample"
        found |= dict.fromkeys(layer.leaves, role)
    return found


def _shortcuts(layers: Layers) -> set[int]:
    """1x1 kernels that are added to a branch which reads the same image."""
    found = set()
    for step in layers.flat.steps:
        if step.eqn.primitive.name not in ("add", "add_any"):
            continue
        if not all(v in layers.before for v in step.inputs):
            continue
        for one, other in (step.inputs, step.inputs[::-1]):
            for k, layer in layers.layers.items():
                if not (layers.near[one] >> k & 1 and layer.is_pointwise):
                    continue
                beside = layers.before[other] & ~(1 << k)
                if any(
                    beside >> e & 1 and layers.reads(e) == layers.reads(k) for e in layers.layers
                ):
                    found.add(k)
    return found
