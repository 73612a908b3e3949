"""What a ticket keeps, leaf by leaf, as a table."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from wormjax import _table
from wormjax._masks import check_masks
from wormjax._packing import packed_bits
from wormjax._paths import leaf_names
from wormjax.evaluation._leaf_macs import leaf_macs

Kind = Literal["whole", "channel", "entry", ""]

_HEAD = ("leaf", "shape", "mask", "kept", "of", "density", "bits")
_NO_TIME = "Masks save no time by themselves: wj.plan says what shrinking saves, wj.shrink does it."
_EFFECTIVE = "Effective MACs are those with kept entries; channels masked at a norm's scale show in no kernel."


class SummaryRow(NamedTuple):
    """What becomes of one leaf, or of several.

    Attributes:
      leaf: its path; ``"prunable"`` for all leaves with a mask, ``"total"`` for all.
      shape: its shape; None for several.
      kind: ``"whole"`` for a leaf that is never pruned, ``"channel"`` where one bit stands for a slice of it or it
        has one axis, ``"entry"`` for a bit an entry; empty for several.
      kept: entries that stay.
      size: entries.
      bits: what its packed mask takes, see `wormjax.pack`.
      macs: multiply-accumulates that it takes part in; None where no function was given.
      effective_macs: those with kept entries.
    """

    leaf: str
    shape: tuple[int, ...] | None
    kind: Kind
    kept: int
    size: int
    bits: int
    macs: int | None = None
    effective_macs: int | None = None

    @property
    def density(self) -> float:
        """Fraction of the entries that are kept; NaN where there are none."""
        return self.kept / self.size if self.size else math.nan

    def cells(self) -> tuple[str, ...]:
        """Return what a table shows."""
        shape = "" if self.shape is None else "x".join(map(str, self.shape)) or "scalar"
        density = f"{self.density:.1%}" if self.size else "-"
        numbers = (f"{self.kept:,}", f"{self.size:,}", density, f"{self.bits:,}")
        work = () if self.macs is None else (f"{self.macs:,}", f"{self.effective_macs:,}")
        return (self.leaf, shape, self.kind, *numbers, *work)


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a ticket keeps; made by `summarize`, and ``str`` makes an aligned table of it.

    Attributes:
      leaves: one row a leaf, in flatten order.
      prunable: all leaves with a mask together, as `wormjax.density` counts.
      total: all leaves together.
    """

    leaves: tuple[SummaryRow, ...]
    prunable: SummaryRow
    total: SummaryRow

    def __str__(self) -> str:
        return _table.as_text(*self._table())

    def records(self) -> list[dict[str, Any]]:
        """Return one plain dict for each row, totals last, with the density."""
        return [{**row._asdict(), "density": row.density} for row in self._rows]

    def to_html(self) -> str:
        """Return what ``str`` says as an HTML table; all text is escaped."""
        return _table.as_html("Masks", *self._table())

    @property
    def _rows(self) -> tuple[SummaryRow, ...]:
        return (*self.leaves, self.prunable, self.total)

    def _table(self) -> tuple:
        counted = self.total.macs is not None
        head = (*_HEAD, "MACs", "effective MACs") if counted else _HEAD
        notes = (_NO_TIME, _EFFECTIVE) if counted else (_NO_TIME,)
        return head, [row.cells() for row in self._rows], range(3, len(head)), notes


def summarize(
    params: PyTree, masks: PyTree, apply: Callable[..., Any] | None = None, *inputs: Any
) -> Summary:
    r"""Tell what masks keep, leaf by leaf and in total.

    With ``apply`` also the multiply-accumulates that each leaf takes part in, and how many of those have a kept
    entry, for MACs spread evenly over the entries (as they are in a dot product and in a convolution):

    .. math:: \text{effective}_l = \text{MACs}_l \cdot \frac{\text{kept}_l}{\text{entries}_l}

    That is what a kernel for sparse weights would have to do, and no time that is saved: a masked network
    computes every product. Shrinking saves; `wormjax.plan` tells how much.

    Args:
      params: pytree of arrays or ``jax.ShapeDtypeStruct``.
      masks: its mask tree, of arrays that hold values (not inside ``jit``).
      apply: ``apply(params, *inputs)``, traced and never run; None leaves its columns out.
      *inputs: arrays or ``jax.ShapeDtypeStruct``; the batch counts.

    Returns:
      `Summary`, all counts exact Python integers; ``print`` it.

    Raises:
      ValueError: structures or shapes differ, naming the first path; inputs without ``apply``; or what
        `wormjax.evaluation.macs` raises.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"kernel": jnp.ones((3, 4)), "scale": jnp.ones(4)}
      >>> masks = {"kernel": jnp.array(True), "scale": jnp.array([True, False, True, False])}
      >>> print(str(summarize(params, masks)).split("Masks save")[0].rstrip())
      leaf      shape  mask     kept  of  density  bits
      kernel    3x4    whole      12  12   100.0%     0
      scale     4      channel     2   4    50.0%     8
      prunable                     2   4    50.0%     8
      total                       14  16    87.5%     8
    """
    check_masks(params, masks)
    if apply is None and inputs:
        raise ValueError(
            "summarize got inputs and no function to count with: give apply before them."
        )
    flat = jax.tree.leaves(masks)
    counts = [sum(map(int, rows)) for rows in jax.device_get(_count_by_row(flat))]
    work = None if apply is None else leaf_macs(apply, params, *inputs)
    rows = []
    named = zip(leaf_names(params), jax.tree.leaves(params), flat, counts, strict=True)
    for k, (name, leaf, mask, count) in enumerate(named):
        shape = tuple(jnp.shape(leaf))
        size = math.prod(shape)
        # a bit of a mask that is spread stands for as many entries
        kept = size if mask.ndim == 0 else count * size // max(mask.size, 1)
        macs = None if work is None else work.leaves[k]
        effective = None if macs is None else round(Fraction(macs * kept, max(size, 1)))
        kind = _kind(shape, mask)
        rows.append(SummaryRow(name, shape, kind, kept, size, packed_bits(mask), macs, effective))
    prunable = _together(
        "prunable", [row for row in rows if row.kind != "whole"], None if work is None else 0
    )
    return Summary(
        tuple(rows), prunable, _together("total", rows, None if work is None else work.rest)
    )


def _kind(shape: tuple[int, ...], mask: Any) -> Kind:
    if mask.ndim == 0:
        return "whole"
    return "channel" if mask.shape != shape or len(shape) == 1 else "entry"


def _together(name: str, rows: Sequence[SummaryRow], rest: int | None) -> SummaryRow:
    """Return the sum of rows, and of products that no leaf takes part in; None where none are counted."""
    kept, size, bits = (sum(getattr(row, f) for row in rows) for f in ("kept", "size", "bits"))
    if rest is None:
        return SummaryRow(name, None, "", kept, size, bits)
    macs, effective = (
        rest + sum(getattr(row, f) for row in rows) for f in ("macs", "effective_macs")
    )
    return SummaryRow(name, None, "", kept, size, bits, macs, effective)


@jax.jit
def _count_by_row(masks: list[Any]) -> list[Any]:
    """Count the kept entries of every mask along all but its first axis: 32 bits hold a row, not a leaf."""
    return [jnp.sum(m, axis=tuple(range(1, m.ndim)), dtype=jnp.int32).ravel() for m in masks]
