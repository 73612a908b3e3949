"""What structured tickets gain when they run: layers of VGG-16 at their true sizes, and the whole network.

Run ``python -m benchmarks.regroup``. Masks are synthetic and seeded: rows of eight hidden kinds, each with columns that
it prefers, at a density that falls with depth as iterative pruning's does. What it shows:

- for every layer at batch 1 and 64, Regroup by input channels over a fair dense baseline, which is the faster of the
  library's convolution and an im2col product (XLA:CPU is over 100 times too slow at a 3x3 convolution of a 2x2 map).
  The target holds where the executed density is below 0.5 and the layer has 256 filters or more; elsewhere the ratio
  only informs;
- a masked layer over the same baseline: the clock does not see zeros;
- the network with normalisation: dense, masked, in blocks, and shrunk by Refill at the same density of the masks, all
  of them with matrix products where the map is smaller than the window;
- how long Regroup of a 512 x 4608 mask into eight parts takes, over its limit of 2 s.

The functions that are timed are found equal first: the blocks to the masked layer, the shrunk network to its masked
one. A question mark in the last column says that the noise of the machine could have decided the verdict.
"""

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from benchmarks._report import Report, parser
from benchmarks._rows import Row
from benchmarks._timing import compiled, interleave
from experiments.models import VGGConfig, build, named
from wormjax import apply_masks, find_groups, shrink
from wormjax.lottery import (
    RegroupSettings,
    block_apply,
    refill,
    regroup,
    regroup_matrix,
    row_blocks,
)

FASTER, LIMIT, WIDE, SPARSE = 1.0, 2.0, 256, 0.5
# convolutions of VGG-16 on 32x32 images: input and output channels, side of the map, density of the mask
LAYERS = (
    (64, 128, 16, 0.6),
    (128, 256, 8, 0.5),
    (256, 256, 8, 0.4),
    (256, 512, 4, 0.25),
    (512, 512, 4, 0.1),
    (512, 512, 2, 0.05),
)


class Layer(NamedTuple):
    """A convolution with its mask.

    Attributes:
      kernel: (3, 3, input, output), normal.
      mask: of its shape.
      side: of the map.
    """

    kernel: np.ndarray
    mask: np.ndarray
    side: int


def weakly_structured(shape: tuple[int, ...], density: float, seed: int) -> np.ndarray:
    """Return a mask of a kernel (window, window, input, output) whose output channels are of eight hidden kinds."""
    rng = np.random.default_rng(seed)
    inputs, outputs = shape[-2:]
    preference = 2 * rng.normal(size=(8, inputs))[rng.integers(0, 8, outputs)].T
    score = preference + 0.5 * rng.normal(size=(inputs, 1)) + rng.gumbel(size=shape)
    return score >= np.quantile(score, 1 - density)


def convolve(x: Array, kernel: Array) -> Array:
    """The library's convolution, SAME."""
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def unroll(x: Array, kernel: Array) -> Array:
    """The same as im2col and one matrix product."""
    windows = lax.conv_general_dilated_patches(
        x, kernel.shape[:2], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return windows @ kernel.transpose(2, 0, 1, 3).reshape(-1, kernel.shape[3])


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print and return the rows."""
    flags = parser(__doc__, rounds=30, seconds=20.0)
    flags.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="(%(default)s)")
    flags.add_argument("--layers", type=int, nargs="+", default=list(range(len(LAYERS))))
    flags.add_argument("--divide", type=int, default=1, help="channels, for a quick look")
    flags.add_argument("--no-network", action="store_true", help="layers only")
    args = flags.parse_args(argv)
    report = Report("benchmarks.regroup", argv)
    report.add(_regrouping(args))
    for index in args.layers:
        inputs, outputs, side, density = LAYERS[index]
        shape = (3, 3, max(1, inputs // args.divide), max(1, outputs // args.divide))
        kernel = np.random.default_rng(index).normal(size=shape).astype(np.float32) / 50
        layer = Layer(kernel, weakly_structured(shape, density, index), side)
        for batch in args.batches:
            report.add(*_layer_rows(layer, batch, args))
    if not args.no_network:
        for batch in args.batches:
            report.add(*_network_rows(batch, args))
    return report.finish(args.json)


def _regrouping(args: argparse.Namespace) -> Row:
    size = 512 // args.divide
    mask = weakly_structured((3, 3, size, size), 0.1, 0).transpose(3, 2, 0, 1).reshape(size, -1)
    how = RegroupSettings(granularity="element", parts=8)
    begin = time.perf_counter()
    regroup_matrix(mask.astype(np.int8), how)
    took = time.perf_counter() - begin
    return Row.counted(
        f"regroup of {size} x {mask.shape[1]}, seconds / {LIMIT:g} s", took, LIMIT, 1.0
    )


def _layer_rows(layer: Layer, batch: int, args: argparse.Namespace) -> list[Row]:
    """Time one layer: dense both ways, masked, in blocks."""
    inputs, outputs = layer.kernel.shape[2:]
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(batch, layer.side, layer.side, inputs)), "float32")
    params = {"kernel": layer.kernel, "out": rng.normal(size=(outputs, 1)).astype(np.float32)}
    # a layer between others: its channels may be numbered anew, which the small product behind it takes over
    pathological = layer.side < layer.kernel.shape[0]
    by_library = functools.partial(_ending, convolve)
    by_product = functools.partial(_ending, unroll)
    groups = find_groups(by_library, params, x)
    found = regroup(groups, {"kernel": jnp.asarray(layer.mask), "out": jnp.array(True)})
    masked = jax.tree.map(jnp.asarray, apply_masks(params, found.masks))
    dense = jax.tree.map(jnp.asarray, params)
    ticket = block_apply(groups, found.blocks, masked)
    made = found.blocks["kernel"]
    runs = {
        "convolution": _run(by_library, dense, x),
        "im2col": _run(by_product, dense, x),
        "masked": _run(by_product if pathological else by_library, masked, x),
        "blocks": _run(ticket.apply, ticket.params, x),
    }
    if pathological:
        del runs["convolution"]  # nobody should be compared with it
    _check(np.asarray(runs["blocks"]()), np.asarray(runs["masked"]()))
    times = interleave(runs, rounds=args.rounds, budget=args.seconds)
    best = min((n for n in ("convolution", "im2col") if n in runs), key=times.median)
    where = f"{inputs}->{outputs} {layer.side}x{layer.side} batch {batch}"
    flops = 2 * batch * layer.side**2 * layer.kernel.size / times.median(best) / 1e9
    pays = outputs >= WIDE and made.executed < SPARSE
    told = (
        f"nominal {layer.mask.mean():.2f}, executed {made.executed:.2f}, {len(made.blocks)} blocks"
    )
    return [
        Row.timed(
            f"{where} ({told}), dense [{best}, {flops:.0f} GFLOP/s] / blocks",
            times,
            best,
            "blocks",
            target=FASTER if pays else None,
            at_least=True,
        ),
        Row.timed(f"{where}, dense [{best}] / masked", times, best, "masked"),
    ]


def _ending(layer: Callable[[Array, Array], Array], params: Any, x: Array) -> Array:
    return layer(x, params["kernel"]).mean(axis=(1, 2)) @ params["out"]


def _network_rows(batch: int, args: argparse.Namespace) -> list[Row]:
    """Time VGG-16 with normalisation: dense, masked, in blocks, and refilled and shrunk."""
    standard = named("vgg16")
    assert isinstance(standard, VGGConfig)
    widths = tuple(w if w == "M" else max(1, w // args.divide) for w in standard.widths)
    view = build(VGGConfig(widths), jax.random.key(0))
    apply = functools.partial(view.apply, train=False)
    x = jax.random.normal(jax.random.key(1), (batch, 32, 32, 3))
    groups = find_groups(apply, view.params, jnp.zeros((2, 32, 32, 3)), state=view.state)
    densities = iter(np.linspace(0.9, 0.05, sum(w != "M" for w in widths)))
    masks = jax.tree.map(
        lambda p: (
            jnp.asarray(weakly_structured(p.shape, float(next(densities)), 0))
            if p.ndim == 4
            else jnp.array(True)
        ),
        view.params,
    )
    blocked, filled = regroup(groups, masks), refill(groups, view.params, masks)
    in_blocks = apply_masks(view.params, blocked.masks)
    ticket = block_apply(groups, blocked.blocks, in_blocks, view.state)
    channels = apply_masks(view.params, filled.masks)
    small = shrink(filled.plan, channels, state=view.state)
    runs = {
        "dense": _fair(apply, view.params, view.state, x),
        "masked": _fair(apply, in_blocks, view.state, x),
        "blocks": _run(ticket.apply, ticket.params, ticket.state, x),
        "shrunk": _fair(small.apply, small.params, small.state, x),
    }
    _check(np.asarray(runs["blocks"]()[0]), np.asarray(runs["masked"]()[0]))
    refilled = jax.jit(apply)(channels, view.state, x)[0]
    _check(np.asarray(runs["shrunk"]()[0]), np.asarray(refilled))
    times = interleave(runs, rounds=args.rounds, budget=args.seconds)
    nominal = f"nominal {blocked.nominal_density:.2f}, executed {blocked.executed_density:.2f}"
    where = f"VGG-16 batch {batch}"
    return [
        Row.timed(f"{where} ({nominal}), dense / blocks", times, "dense", "blocks"),
        Row.timed(f"{where}, dense / masked", times, "dense", "masked"),
        Row.timed(f"{where}, dense / shrunk by refill", times, "dense", "shrunk"),
        Row.counted(f"{where}, dense / blocks multiply-accumulates", *blocked.macs),
        Row.counted(f"{where}, dense / shrunk multiply-accumulates", *filled.plan.macs),
    ]


def _fair(apply: Callable[..., Any], params: Any, state: Any, x: Array) -> Callable[[], Any]:
    """Compile a network whose convolutions of maps smaller than the window are matrix products, as in blocks."""
    groups = find_groups(apply, params, jnp.zeros((2, *x.shape[1:])), state=state)
    everything = jax.tree.map(lambda p: jnp.asarray(np.ones((1,) * p.ndim, bool)), params)
    ticket = block_apply(groups, row_blocks(groups, everything), params, state)
    return _run(ticket.apply, ticket.params, ticket.state, x)


def _run(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    executable, _ = compiled(function, *arguments)
    return functools.partial(executable, *arguments)


def _check(have: np.ndarray, want: np.ndarray) -> None:
    if not np.allclose(have, want, atol=1e-4 * max(1.0, float(np.abs(want).max()))):
        raise AssertionError(
            "The structured network is not the masked one: there is nothing to time."
        )


if __name__ == "__main__":
    main()
