"""Tickets on disk: Orbax writes the arrays, a sealed record says what they must be; nothing is pickled.

The folder holds one Orbax checkpoint for each tree (``params``, ``state``, ``opt_state``, ``like_params_0``, ...) and
``manifest.json``, which is written last, so that a folder with it is whole. The function itself is not saved: whoever
loads brings the original definition at its full size, and every difference in names, shapes and dtypes, every
changed byte, is an error before an array is read.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from wormjax._paths import leaf_names
from wormjax.structure._array_files import restore_arrays, save_arrays
from wormjax.structure._captured import CapturedWarning, Holding
from wormjax.structure._opt_state_slicing import Optimizer
from wormjax.structure._restored import STATE, Restored
from wormjax.structure._small_apply import SmallApply
from wormjax.structure._ticket import Ticket
from wormjax.structure._ticket_error import TicketError
from wormjax.structure._ticket_record import FILE, Leaf, Record, digest_of, raw
from wormjax.structure._without import Without

CAPTURED = "captured"
LARGE = 2**20  # bytes of captured arrays that nobody needs to hear of


def save_ticket(path: str | os.PathLike, ticket: Ticket) -> None:
    """Write a ticket into a folder of its own.

    With several processes all of them call it, and each writes its own shards.

    Args:
      path: a folder that does not exist, or is empty.
      ticket: from `wormjax.structure.shrink`. What its function closes over (numbers of Python and NumPy, which
        are a part of its text, and random keys excepted) is saved, too. Better pass such arrays as ``state=``; there
        is a `CapturedWarning` where they shrink with the network, or are larger than its parameters (and than 1 MiB).

    Raises:
      TicketError: there is something at ``path``.
      TypeError: a leaf is no array.

    Example:
      >>> import tempfile, jax.numpy as jnp
      >>> from wormjax import scores
      >>> from wormjax.structure import find_groups, load_ticket, plan, save_ticket, shrink
      >>> params = {"a": jnp.array([[1.0, 3.0, 2.0]]), "b": jnp.ones((3, 1))}
      >>> def apply(params, x):
      ...     return jnp.tanh(x @ params["a"]) @ params["b"]
      >>> groups = find_groups(apply, params, jnp.ones((4, 1)))
      >>> ticket = shrink(plan(groups, scores.magnitude(params), keep="0.66"), params)
      >>> folder = tempfile.mkdtemp()
      >>> save_ticket(folder, ticket)
      >>> print(load_ticket(folder, apply, params).params["a"])
      [[3. 2.]]
    """
    folder = Path(path).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TicketError(
            f"There is something at {folder} already. Save to another path, or remove it first (a folder without "
            f"{FILE} is what an interrupted save leaves)."
        )
    trees = {"params": ticket.params, "state": ticket.state, "opt_state": ticket.opt_state}
    trees |= {f"like_params_{k}": tree for k, tree in enumerate(ticket.like_params)}
    holding = ticket.apply.first.captured
    if holding.blocks:
        trees[CAPTURED] = {digest: block.array for digest, block in holding.blocks.items()}
    trees = {name: tree for name, tree in trees.items() if tree is not None}
    described = {name: Leaf.of_tree(tree, name) for name, tree in trees.items()}
    _recommend_state(holding, ticket.params)
    full = ticket.apply.full_state_shapes
    _wait_for_all("looked")
    folder.mkdir(parents=True, exist_ok=True)
    for name, tree in trees.items():
        # named by their places; Orbax refuses arrays without entries
        arrays = {str(k): raw(x) for k, x in enumerate(jax.tree.leaves(tree)) if x.size}
        if arrays:
            save_arrays(folder / name, arrays)
    if jax.process_index() == 0:
        files = {
            file.relative_to(folder).as_posix(): str(digest_of(file))
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        of_state = None if full is None else Leaf.of_tree(full, "state")
        blocks = {digest: block.record() for digest, block in holding.blocks.items()}
        Record(ticket.manifest, described, of_state, holding.inputs, blocks, files).write(folder)
    _wait_for_all("written")


def load_ticket(
    path: str | os.PathLike,
    apply: Callable[..., Any],
    params_like: PyTree,
    state_like: PyTree | None = None,
    tx: Optimizer | None = None,
) -> Ticket:
    """Read a ticket back, in another process, on other devices.

    Args:
      path: what `save_ticket` wrote.
      apply: the original function, of the full network. Where it closes over arrays, of the shapes that the
        ticket's closed over, the ticket's values stand for them; there is a `CapturedWarning` where they differ.
      params_like: the original's parameters, arrays or `jax.ShapeDtypeStruct`: only their tree, shapes and dtypes
        are looked at.
      state_like: its state, likewise, where it has one.
      tx: the optimizer, to read the optimizer's state back too; without it that is None. One that holds masks
        (`wormjax.truncate`) must hold the small ones.

    Returns:
      The ticket. Its arrays are on the default device, committed to none.

    Raises:
      TicketError: the ticket is damaged, or of another definition, or of another optimizer. That the function
        closes over other arrays in number or shape is found at its first call.
    """
    folder = Path(path).absolute()
    record = Record.read(folder)
    shapes, state_shapes = jax.eval_shape(lambda *xs: xs, params_like, state_like)
    record.manifest.check_fits(shapes)
    _check_state(folder, record, state_shapes)
    widths = record.manifest.widths
    small = jax.tree.unflatten(
        jax.tree.structure(shapes),
        [
            jax.ShapeDtypeStruct(widths[name], x.dtype)
            for name, x in zip(leaf_names(shapes), jax.tree.leaves(shapes), strict=True)
        ],
    )
    definition, cut_shapes, cut_state = _without(apply, shapes, state_shapes, record)
    asked: dict[str, tuple[PyTree, str]] = {"params": (small, "")}
    if state_like is not None:
        asked["state"] = state_shapes, "shape"
    if tx is not None:
        asked["opt_state"] = _made(tx, small), ""
    like = [name for name in record.trees if name.startswith("like_params_")]
    asked |= {f"like_params_{k}": (small, "dtype") for k in range(len(like))}
    for name, (tree, free) in asked.items():
        record.check_tree(folder, name, Leaf.of_tree(tree, name), free)
    digests = sorted(record.blocks)
    if [leaf.name for leaf in record.trees.get(CAPTURED, [])] != digests:
        raise record.misfit(folder)
    if digests:
        asked[CAPTURED] = dict.fromkeys(digests, 0), ""
    for name in asked:
        record.check_files(folder, name)
    read = {name: _read(folder, record, name, tree) for name, (tree, _) in asked.items()}
    holding = record.holding(folder, read.get(CAPTURED, {}))
    return Ticket(
        params=read["params"],
        state=read.get("state"),
        opt_state=read.get("opt_state"),
        like_params=tuple(read[f"like_params_{k}"] for k in range(len(like))),
        apply=SmallApply(
            definition,
            cut_shapes,
            cut_state,
            record.manifest.channels,
            captured=holding,
            restored=Restored(definition, cut_shapes, cut_state, holding)
            if holding.found or not record.manifest.removals
            else None,
        ),
        manifest=record.manifest,
    )


def _without(
    apply: Callable[..., Any], shapes: PyTree, state_shapes: PyTree | None, record: Record
) -> tuple[Callable[..., Any], PyTree, PyTree | None]:
    """Return the definition without the branches that the ticket lacks, and what is left of its trees."""
    for removed in record.manifest.removals:
        apply = Without(apply, shapes, state_shapes, removed)
        shapes, state_shapes = removed.shapes(shapes, state_shapes)
    return apply, shapes, state_shapes


def _recommend_state(holding: Holding, params: PyTree) -> None:
    """Warn of captured arrays that look like a part of the network: weights or statistics, or as large as those.

    A table that no unit lies on (an input's mean, rotary angles) and a number are nobody's mistake.
    """
    total = sum(x.nbytes for x in jax.tree.leaves(params))
    if holding.pruned:
        told = f"arrays that shrink with it (the first of shape {holding.pruned[0].shape})"
    elif holding.nbytes > max(total, LARGE):
        told = f"{holding.nbytes:,} bytes of arrays, and its parameters have {total:,}"
    else:
        return
    warnings.warn(
        f"The function of this ticket closes over {told}. They are saved with it, and stand for what the definition "
        f"closes over that it is loaded with. {STATE}",
        CapturedWarning,
        stacklevel=3,
    )


def _check_state(folder: Path, record: Record, given: PyTree | None) -> None:
    """Raise where the state is not the full state that the ticket's was cut from."""
    if (given is None) != (record.full_state is None):
        raise TicketError(
            f"The ticket {folder} "
            + (
                "has no state; pass none."
                if given is not None
                else "has a state; pass state_like=."
            )
        )
    if given is not None and Leaf.of_tree(given, "state_like") != record.full_state:
        full = {x.name: x for x in record.full_state or ()}
        told = [x for x in Leaf.of_tree(given, "state_like") if full.get(x.name) != x]
        raise TicketError(
            f"The ticket {folder} was cut from another state than state_like: "
            + (f"{told[0]} is not in it." if told else "some of its leaves are missing.")
        )


def _made(tx: Optimizer, small: PyTree) -> PyTree:
    """The optimizer state that tx makes for the small parameters, as shapes."""
    try:
        return jax.eval_shape(tx.init, small)
    except Exception as error:  # whatever an optimizer stumbles over
        raise TicketError(
            f"tx.init does not take the ticket's parameters ({type(error).__name__}: {error}). Build the optimizer "
            "for the small sizes; masks that it holds must be cut too."
        ) from error


def _read(folder: Path, record: Record, tree: str, like: PyTree) -> PyTree:
    """Read one tree into the containers of ``like``."""
    stored = record.trees[tree]
    filled = [str(k) for k, x in enumerate(stored) if x.size]
    found = {}
    if filled:
        try:
            found = restore_arrays(folder / tree, filled)
        except Exception as error:
            # Orbax and TensorStore raise whatever made them stumble
            reason = " ".join(str(error).split())[:300]
            raise TicketError(
                f"The arrays of {tree} in the ticket {folder} cannot be read ({type(error).__name__}: {reason})."
            ) from error
    leaves = []
    for k, leaf in enumerate(stored):
        array = leaf.revived(found[str(k)]) if leaf.size else leaf.empty()
        if (array.shape, str(array.dtype)) != (leaf.shape, leaf.dtype):
            raise TicketError(
                f"The ticket {folder} holds {leaf.name!r} of {tree} as {array.dtype}{array.shape} and its record says "
                f"{leaf.dtype}{leaf.shape}."
            )
        leaves.append(array)
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _wait_for_all(what: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"wormjax_ticket_{what}")
