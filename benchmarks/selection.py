r"""Exact selection without sorting, against a sort and against PyTorch's selection.

Run ``python -m benchmarks.selection``. What it shows:

- `wormjax.top_masks` over 2^24 float32 scores (threshold, ties cut exactly, the check for NaN, and the
  mask written) is at least 20 times faster than one ``jnp.argsort`` of them, and takes at most 1.5 times
  as long as ``torch.kthvalue``, which finds the threshold only; on random scores and where an eighth of
  them are tied at the threshold;
- keys are never stored: the compiled program's temporary memory is a vanishing part of the 4 bytes an
  entry that keys would take (the sort's is shown beside it);
- packing, unpacking and comparing masks, beside NumPy on the same masks.

PyTorch is optional and skipped with a sentence.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

import wormjax as wj
from benchmarks._report import Report, parser
from benchmarks._rows import Row
from benchmarks._timing import compiled, interleave
from benchmarks._torch import find_torch

TIED_VALUES = 8


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print and return the rows."""
    flags = parser(__doc__, rounds=15, seconds=8.0)
    flags.add_argument("--entries", type=int, default=2**24, help="scores (%(default)s)")
    flags.add_argument("--sort-rounds", type=int, default=2, help="sorts timed (%(default)s)")
    args = flags.parse_args(argv)
    report, torch = Report("benchmarks.selection", argv), find_torch()
    density = 0.5
    kept = args.entries // 2
    top_masks = functools.partial(wj.top_masks, density=density)

    flat = jax.ShapeDtypeStruct((args.entries,), jnp.float32)
    program, compile_top_masks = compiled(top_masks, {"w": flat})
    argsort, compile_argsort = compiled(jnp.argsort, flat)
    masks = {}
    for kind, scores in _scores(args.entries, jax.random.key(0)).items():
        tree = {"w": scores}
        masks[kind] = top_masks(tree)
        if torch is not None:
            tensor = torch.from_numpy(np.array(scores))
            rank = args.entries - kept + 1  # kthvalue counts from the smallest
            threshold = float(torch.kthvalue(tensor, rank).values)
            _check(scores, masks[kind]["w"], kept, threshold)
            times = interleave(
                {
                    "ours": functools.partial(top_masks, tree),
                    "torch": functools.partial(torch.kthvalue, tensor, rank),
                },
                rounds=args.rounds,
                budget=args.seconds,
            )
            name = f"top_masks / torch.kthvalue, {kind}"
            report.add(Row.timed(name, times, "ours", "torch", target=1.5))
        times = interleave(
            {
                "ours": functools.partial(top_masks, tree),
                "argsort": functools.partial(argsort, scores),
            },
            rounds=args.sort_rounds,
            warmup=0,  # compiled and selected before; a sort takes many seconds
        )
        name = f"argsort / top_masks, {kind}"
        report.add(Row.timed(name, times, "argsort", "ours", target=20.0, at_least=True))

    keys = 4 * args.entries
    for name, executable in (("top_masks", program), ("argsort", argsort)):
        memory = executable.memory_analysis()
        if memory is None:  # a backend may not tell
            continue
        extra = memory.temp_size_in_bytes
        target = 0.01 if name == "top_masks" else None
        report.add(Row.counted(f"extra memory of {name} / stored keys", extra, keys, target))
        report.note(f"extra memory of {name}", f"{extra:,} bytes over {args.entries:,} entries")
    report.note("compile top_masks", compile_top_masks)
    report.note("compile argsort", compile_argsort)
    report.add(*_mask_rows(*masks.values(), rounds=args.rounds, budget=args.seconds))
    return report.finish(args.json)


def _scores(entries: int, key: Key[Array, ""]) -> dict[str, Float[Array, "entries"]]:
    """Return normal scores, and scores that take eight values only."""
    return {
        "random": jax.random.normal(key, (entries,)),
        "ties": jax.random.randint(key, (entries,), 0, TIED_VALUES).astype(jnp.float32),
    }


def _check(scores: Array, mask: Array, kept: int, threshold: float) -> None:
    """Raise unless the mask is the exact one: what is timed is right."""
    values, chosen = np.asarray(scores), np.asarray(mask)
    expected = values > threshold
    tied = np.flatnonzero(values == threshold)
    expected[tied[: kept - int(expected.sum())]] = True
    if not np.array_equal(chosen, expected):
        raise AssertionError("top_masks and torch.kthvalue disagree: there is nothing to time.")


def _mask_rows(a: dict, b: dict, *, rounds: int, budget: float) -> list[Row]:
    """Time what is done with masks, beside NumPy on one core."""
    pack, unpack, distance = jax.jit(wj.pack), jax.jit(wj.unpack), jax.jit(wj.mask_distance)
    packed = pack(a)
    x, y = np.asarray(a["w"]), np.asarray(b["w"])
    bits = np.packbits(x)
    pairs = {
        "pack / np.packbits": (lambda: pack(a), lambda: np.packbits(x)),
        "unpack / np.unpackbits": (lambda: unpack(packed), lambda: np.unpackbits(bits)),
        "mask_distance / np.count_nonzero(a != b)": (
            lambda: distance(a, b),
            lambda: np.count_nonzero(x != y),
        ),
    }
    rows = []
    for name, (ours, numpy) in pairs.items():
        times = interleave({"ours": ours, "numpy": numpy}, rounds=rounds, budget=budget)
        rows.append(Row.timed(name, times, "ours", "numpy"))
    return rows


if __name__ == "__main__":
    main()
