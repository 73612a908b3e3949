"""From masks that speak of some parameters to masks of all that live and die with them."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from wormjax._masks import check_bool, never_pruned
from wormjax.structure._units import Grouped, Line, by_leaf, lines, others


def extend_to_groups(
    groups: Grouped, masks: PyTree[Bool[Array, "..."]]
) -> PyTree[Bool[Array, "..."]]:
    """Mask every parameter slice of the units that a ticket removes.

    A unit goes when some mask speaks of it and none keeps any of its entries, as in ``plan(groups, masks=masks)``,
    whose masks these are. Here they are arrays: the function may be compiled, and other masks compile nothing.

    Args:
      groups: from `find_groups`.
      masks: mask tree of the parameters, such as an Early-Bird ticket; it may be a part of the tree, with
        `optax.MaskedNode` for the rest.

    Returns:
      Mask tree of the same structure. A leaf on which no group lies that some mask speaks of is rank-0 True; what
      ``masks`` prunes beyond whole units is kept. The first unit of a group that would lose all of them stays.

    Raises:
      ValueError: the masks are of other parameters than the groups; the message names the leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax.structure import extend_to_groups, find_groups
      >>> params = {"scale": jnp.ones((1, 3)), "up": jnp.ones((2, 3)), "down": jnp.ones((3, 1))}
      >>> apply = lambda p, x: jnp.tanh(x @ p["up"] * p["scale"]) @ p["down"]
      >>> masks = {"scale": jnp.array([[True, False, True]]), "up": jnp.array(True), "down": jnp.array(True)}
      >>> extended = extend_to_groups(find_groups(apply, params, jnp.ones((1, 2))), masks)
      >>> print(extended["up"], extended["down"].ravel())
      [[ True False  True]] [ True False  True]
    """
    told = by_leaf(groups, masks, "masks")
    _check(groups, told)
    lying: dict[int, list[Array]] = {}
    for group in groups.groups:
        on = lines(groups, group)
        kept = _kept_units(group.size, on, told)
        if kept is None:
            continue
        kept = kept | (~jnp.any(kept) & (jnp.arange(group.size) == 0))
        stays = jnp.append(kept, True)  # where no unit lies
        for leaf, along in on.items():
            rank = len(groups.traced.params[leaf])
            lying.setdefault(leaf, []).extend(stays[x.units].reshape(x.beside(rank)) for x in along)
    extended = [_all(lying.get(leaf, [])) for leaf in told]
    return jax.tree.unflatten(jax.tree.structure(masks), extended)


def _kept_units(
    size: int, on: Mapping[int, Sequence[Line]], masks: Mapping[int, Array]
) -> Bool[Array, " units"] | None:
    """Which units of a group some mask keeps; None where no mask speaks of them."""
    kept, whole = [], []
    for leaf, along in on.items():
        mask = masks.get(leaf, never_pruned())
        for axis, units in along if mask.ndim else ():
            some = jnp.any(mask, axis=others(axis, mask.ndim))
            if mask.shape[axis] == len(units):
                kept.append(
                    jnp.zeros(size + 1, jnp.int32).at[units].add(some.astype(jnp.int32)) > 0
                )
            else:  # it does not tell the units apart, and speaks of them only by pruning the whole leaf
                whole.append(some)
    if kept:
        return jnp.any(jnp.stack(kept), axis=0)[:size]
    return jnp.broadcast_to(jnp.all(jnp.stack(whole)), (size,)) if whole else None


def _all(masks: Sequence[Bool[Array, "..."]]) -> Bool[Array, "..."]:
    whole = masks[0] if masks else never_pruned()
    for mask in masks[1:]:
        whole = whole & mask
    return whole


def _check(groups: Grouped, masks: Mapping[int, Array]) -> None:
    shapes = [x.shape for x in jax.tree.leaves(groups.shapes)]
    for leaf, mask in masks.items():
        name, shape = groups.traced.names[leaf], shapes[leaf]
        check_bool(name, mask)
        fits = len(shape) == mask.ndim and all(
            k in (1, n) for k, n in zip(mask.shape, shape, strict=True)
        )
        if mask.ndim and not fits:
            raise ValueError(
                f"The mask at {name!r} has shape {mask.shape}, and the groups were found on a parameter of shape "
                f"{shape}. Find the groups on these parameters, after shrinking too."
            )
