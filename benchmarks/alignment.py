"""How fast the present backend is at which widths, for ``round_to="auto"`` and ``plan(latency=...)``.

Run ``python -m benchmarks.alignment``; with ``--write`` the table goes into the package. What it shows:

- for dot products (rows x inner x outer), 3x3 convolutions and depthwise ones, what a width just below a multiple
  of 16, 32, 64, 128 and 256 costs over the multiple itself: above 1, fewer channels take longer;
- the table: multiply-accumulates a second at every measured width, relative to the reference width, where only
  the inner or only the outer width changes.

Ratios are of times in turn, round by round, so that a busy machine does not decide them.
"""

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import wormjax.structure
from benchmarks._report import Report, parser
from benchmarks._rows import Row
from benchmarks._timing import Samples, compiled, interleave
from experiments._provenance import command_line, hardware, versions
from wormjax.structure._alignment import Alignment, Side, Speeds
from wormjax.structure._costs import Work

REFERENCE = 128
TAPS = 3
MULTIPLES = (16, 32, 64, 128, 256)


class Case(NamedTuple):
    """One kind of work, of which one width changes.

    Attributes:
      work: the kind.
      side: whose width changes.
    """

    work: Work
    side: Side

    @property
    def name(self) -> str:
        """What its rows are called."""
        return f"{self.work}, {self.side} width"


CASES = (
    Case("dense", "inner"),
    Case("dense", "outer"),
    Case("convolution", "inner"),
    Case("convolution", "outer"),
    Case("depthwise", "outer"),
)


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print, write if asked, and return the rows."""
    flags = parser(__doc__, rounds=21, seconds=60.0)
    flags.add_argument("--widest", type=int, default=256, help="largest width (%(default)s)")
    flags.add_argument("--rows", type=int, default=2048, help="rows of a dot product (%(default)s)")
    flags.add_argument("--batch", type=int, default=2, help="images of 16 x 16 (%(default)s)")
    flags.add_argument(
        "--write",
        nargs="?",
        type=Path,
        const=_packaged(),
        metavar="FILE",
        help="write the table there; without FILE into the package",
    )
    args = flags.parse_args(argv)
    args.reference = min(REFERENCE, args.widest)
    report = Report("benchmarks.alignment", argv)
    widths = measured_widths(args.widest)
    rates: dict[str, float] = {}
    speeds: dict[str, dict[str, Speeds]] = {}
    for case in CASES:
        programs = {str(w): _program(case, w, args) for w in widths}
        times = interleave(programs, rounds=args.rounds, budget=args.seconds)
        for multiple in (m for m in MULTIPLES if m <= args.widest):
            name = f"{case.name}: {multiple - 1} / {multiple}"
            report.add(Row.timed(name, times, str(multiple - 1), str(multiple)))
        speeds.setdefault(case.work, {})[case.side] = _speeds(times, widths, args.reference)
        rates[case.work] = _macs(case, args.reference, args) / times.median(str(args.reference))
        report.note(f"{case.name}, speed by width", _listed(speeds[case.work][case.side]))
    for work, rate in rates.items():
        report.note(
            f"{work} at width {args.reference}", f"{rate / 1e9:.1f} G multiply-accumulates/s"
        )
    if args.write is not None:
        record = {
            "command": command_line("benchmarks.alignment", argv),
            "reference_width": args.reference,
            "rounds": args.rounds,
            "hardware": hardware(),
            "versions": versions(),
        }
        Alignment(jax.default_backend(), rates, speeds, record).write(args.write)
        report.note("table written", args.write.name)
    return report.finish(args.json)


def measured_widths(widest: int) -> list[int]:
    """Return the widths to measure: multiples that thin out as they grow, and what lies beside some of them.

    Example:
      >>> measured_widths(16)
      [1, 2, 3, 4, 7, 8, 9, 12, 15, 16]
    """
    found = {1, 2, 3, widest}
    for last, step in ((32, 4), (128, 8), (256, 16), (widest, 64)):
        found |= set(range(step, last + 1, step))
    for place in (8, 16, 32, 64, 96, 128, 192, 256):
        found |= {place - 1, place + 1}
        found |= {place - 2, place - 4} if place >= 32 else set()
    return sorted(w for w in found if w <= widest)


def _packaged() -> Path:
    folder = Path(wormjax.structure.__file__).parent / "alignment"
    return folder / f"{jax.default_backend()}.json"


def _sides(case: Case, width: int, reference: int) -> tuple[int, int]:
    return (width, reference) if case.side == "inner" else (reference, width)


def _macs(case: Case, width: int, args: argparse.Namespace) -> int:
    inner, outer = _sides(case, width, args.reference)
    if case.work == "dense":
        return args.rows * inner * outer
    positions = args.batch * 16 * 16 * TAPS * TAPS
    return positions * (outer if case.work == "depthwise" else inner * outer)


def _program(case: Case, width: int, args: argparse.Namespace) -> Callable[[], Any]:
    """Return compiled work on arrays that are there already."""
    inner, outer = _sides(case, width, args.reference)
    arrays: list[tuple[int, ...]]
    function: Callable[..., Any]
    if case.work == "dense":
        arrays, function = [(args.rows, inner), (inner, outer)], jnp.matmul
    else:
        groups = outer if case.work == "depthwise" else 1
        inner = outer if case.work == "depthwise" else inner
        arrays = [(args.batch, 16, 16, inner), (TAPS, TAPS, inner // groups, outer)]
        function = functools.partial(
            lax.conv_general_dilated,
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
    # NumPy draws without compiling a program for every shape
    rng = np.random.default_rng(width)
    drawn = [jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in arrays]
    executable, _ = compiled(function, *drawn)
    return functools.partial(executable, *drawn)


def _speeds(times: Samples, widths: Sequence[int], reference: int) -> Speeds:
    """Return multiply-accumulates a second over those at the reference width."""
    taken = [times.ratio(str(reference), str(w)).median for w in widths]
    relative = [t * w / reference for t, w in zip(taken, widths, strict=True)]
    return Speeds(np.array(widths), np.array(relative))


def _listed(speeds: Speeds) -> str:
    pairs = zip(speeds.widths, speeds.speeds, strict=True)
    return "  ".join(f"{w}: {s:.2f}" for w, s in pairs)


if __name__ == "__main__":
    main()
