"""A network that is really smaller."""

import dataclasses
from collections.abc import Sequence

import jax.export
from jaxtyping import PyTree

from wormjax.structure._export import PLATFORMS, export_network
from wormjax.structure._manifest import Manifest
from wormjax.structure._small_apply import SmallApply


@dataclasses.dataclass(frozen=True, eq=False)
class Ticket:
    """What `shrink` leaves of a network.

    Attributes:
      params: the small parameters, in the original's tree.
      state: the small state, or None.
      opt_state: the small optimizer state, or None.
      like_params: trees such as averaged parameters, cut like them.
      apply: call it like the original, with the small trees.
      manifest: what was kept, in the coordinates of the first original.
    """

    params: PyTree
    state: PyTree | None
    opt_state: PyTree | None
    like_params: tuple[PyTree, ...]
    apply: SmallApply
    manifest: Manifest

    def __repr__(self) -> str:
        leaves = jax.tree.leaves(self.params)
        return f"Ticket({sum(x.size for x in leaves):,} parameters in {len(leaves)} arrays)"

    @property
    def widths(self) -> dict[str, tuple[int, ...]]:
        """Shape of every small parameter, by path: what a native definition of these sizes is built from."""
        return self.manifest.widths

    def export(
        self, *inputs: PyTree, any_batch: bool = True, platforms: Sequence[str] = PLATFORMS
    ) -> jax.export.Exported:
        """Export the network for inference: a self-contained program with the weights inside.

        Args:
          inputs: example inputs, arrays or `jax.ShapeDtypeStruct`; by default those that the groups were found on.
          any_batch: export for batches of any size, the first axis of every input and output; each example is
            computed by itself. Otherwise for these shapes.
          platforms: what it shall run on, whatever this process runs on.

        Returns:
          A `jax.export.Exported`: ``exported.call(*inputs)`` gives the output (of a network with a state, without
          the new state), ``exported.serialize()`` the bytes for `jax.export.deserialize` (it needs the package
          flatbuffers).

        Raises:
          ValueError: an input or output has no batch axis in front, or the examples of a batch are not independent.

        Example:
          >>> import jax, jax.numpy as jnp
          >>> from wormjax import scores
          >>> from wormjax.structure import find_groups, plan, shrink
          >>> params = {"a": jnp.array([[1.0, 3.0, 2.0]]), "b": jnp.ones((3, 1))}
          >>> def apply(params, x):
          ...     return jnp.tanh(x @ params["a"]) @ params["b"]
          >>> groups = find_groups(apply, params, jnp.ones((4, 1)))
          >>> ticket = shrink(plan(groups, scores.magnitude(params), keep="0.66"), params)
          >>> program = jax.export.deserialize(ticket.export().serialize())
          >>> program.call(jnp.ones((7, 1))).shape, program.platforms
          ((7, 1), ('cpu', 'cuda', 'tpu'))
        """
        return export_network(
            self.apply, self.params, self.state, inputs, any_batch=any_batch, platforms=platforms
        )
