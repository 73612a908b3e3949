"""What foresight pruning costs: rounds of scoring on ResNet-20 and VGG-16, and 100 of them.

Run ``python -m benchmarks.foresight``. What it shows:

- scoring is compiled once for all rounds, whatever the density;
- a round of PX multiplies no more than it must: two forward passes over the pruning set, and value and gradient of one
  example, since data enter by one weight an output;
- beside what the gradient of the loss on the same images needs (SNIP's pass), a round of PX takes at most three times
  the parameters of memory;
- seconds of a round of SynFlow, SynFlow-L2 and PX, beside SNIP's, and 100 times a round of SynFlow and of PX (without
  selection).

Times are CPU times on CPUs, and ratios are of times in turn, round by round. A question mark in the last column says
that the noise of the machine could have decided the verdict.
"""

import argparse
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

import wormjax as wj
from benchmarks._report import Report, parser
from benchmarks._rows import Row
from benchmarks._timing import compiled, interleave
from experiments.models import ModelConfig, build, named
from wormjax import scores
from wormjax.evaluation import macs, parameters
from wormjax.foresight import Method, methods

NETWORKS: dict[str, ModelConfig] = {
    "ResNet-20": named("resnet20", shortcut="B", scale_init=1.0),
    "VGG-16": named("vgg16", scale_init=1.0),
}
ROUNDS = 100


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print and return the rows."""
    flags = parser(__doc__, rounds=5, seconds=60.0)
    flags.add_argument(
        "--batch", type=int, default=100, help="images of the pruning set (%(default)s)"
    )
    flags.add_argument("--side", type=int, default=32, help="pixels along an image (%(default)s)")
    flags.add_argument(
        "--network", choices=NETWORKS, action="append", help="one of them (default: all)"
    )
    args = flags.parse_args(argv)
    report = Report("benchmarks.foresight", argv)
    for name in args.network or NETWORKS:
        report.add(*_rows(report, name, NETWORKS[name], args))
    report.add(_programs())
    return report.finish(args.json)


def _rows(report: Report, name: str, config: ModelConfig, args: argparse.Namespace) -> list[Row]:
    view = build(config, jax.random.key(0))
    shape = (args.batch, args.side, args.side, 3)
    x = jax.random.normal(jax.random.key(1), shape)
    labels = jnp.zeros(args.batch, jnp.int32)
    params = view.params

    def apply(params: PyTree, x: Array) -> Array:
        return view.apply(params, view.state, x)[0]

    def loss(params: PyTree, batch: tuple[Array, Array]) -> Array:
        logits = apply(params, batch[0])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]))

    makers: dict[str, Any] = {
        "SNIP": lambda p, x: scores.snip(p, (x, labels), loss=loss),
        "SynFlow": lambda p, x: scores.synflow(p, x, apply=apply),
        "SynFlow-L2": lambda p, x: scores.synflow_l2(p, x, apply=apply),
        "PX": lambda p, x: scores.px(p, [x], apply=apply),
    }
    programs, calls = {}, {}
    for kind, function in makers.items():
        programs[kind], seconds = compiled(function, params, x)
        report.note(f"compile {kind}, {name}", seconds)
        calls[kind] = functools.partial(_wait, programs[kind], params, x)
    times = interleave(calls, rounds=args.rounds, budget=args.seconds)
    rows = [
        Row.timed(f"{name}: round of {kind} / SNIP", times, kind, "SNIP")
        for kind in ("SynFlow", "SynFlow-L2", "PX")
    ]
    for kind in ("SynFlow", "PX"):
        report.note(f"{ROUNDS} times a round of {kind}, {name}", ROUNDS * times.median(kind))
    forward = macs(apply, params, x[:1])
    least = (2 * args.batch + 3) * forward
    rows.append(
        Row.counted(
            f"{name}: products of PX / 2 N + 3 forward passes",
            macs(makers["PX"], params, x),
            least,
            target=1.0,
        )
    )
    temporary = {k: _temporary(p) for k, p in programs.items()}
    if min(temporary.values()) > 0:
        bound = temporary["SNIP"] + 3 * 4 * parameters(params)
        rows.append(
            Row.counted(
                f"{name}: memory of PX / gradient's + 3 x parameters",
                temporary["PX"],
                bound,
                target=1.0,
            )
        )
    return rows


def _programs() -> Row:
    """Count how often a score is traced in 100 rounds, beside the shapes that are asked once."""
    traced: list[int] = []
    params = {"kernel": jnp.ones((8, 8))}

    def score(params: PyTree, masks: PyTree, batches: Any, key: Any) -> PyTree:
        traced.append(1)
        return methods.magnitude().score(params, masks, batches, key)

    wj.foresight.prune(Method("counted", score), params, density=0.02, rounds=ROUNDS)
    return Row.counted(f"programs of {ROUNDS} rounds / 1", len(traced) - 1, 1, target=1.0)


def _wait(program: Any, params: PyTree, x: Array) -> None:
    jax.block_until_ready(program(params, x))


def _temporary(program: jax.stages.Compiled) -> int:
    """Return the bytes that a program needs beside arguments and results; 0 where unknown."""
    found = program.memory_analysis()
    return int(getattr(found, "temp_size_in_bytes", 0) or 0)


if __name__ == "__main__":
    main()
