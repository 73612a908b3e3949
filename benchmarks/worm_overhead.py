"""What WORM costs a training step: ResNet-20, batch 128, 32x32 pixels.

Run ``python -m benchmarks.worm_overhead``. What it shows:

- between detections, a jitted and donated step with `wormjax.worm` in the optimizer's chain takes at most
  1.01 times the step without it, both with ``every=None`` (the driver detects) and with ``every=n`` (a
  conditional in the program detects);
- the compiled programs say the same without a clock: floating-point operations and bytes accessed;
- a detection, by `wormjax.detect` or inside the step, costs less than one step.

Ratios are of times in turn, round by round. A question mark in the last column says that the noise of the
machine could have decided the verdict.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

import wormjax as wj
from benchmarks._network import RECIPE, STEPS_PER_EPOCH, add_flags, cost_rows, problem
from benchmarks._report import Report, parser
from benchmarks._rows import Row
from benchmarks._timing import interleave
from experiments.training import TrainState

EVERY = 10**9  # detects at update 0 only


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print and return the rows."""
    flags = parser(__doc__, rounds=60, seconds=30.0)
    add_flags(flags)
    args = flags.parse_args(argv)
    report, given = Report("benchmarks.worm_overhead", argv), problem(args)

    recipe = RECIPE.optimizer(STEPS_PER_EPOCH)
    plain = given.stepper(recipe)
    driven = given.stepper(optax.chain(wj.worm(wj.scores.norm_scale), recipe))
    gated = given.stepper(optax.chain(wj.worm(wj.scores.norm_scale, every=EVERY), recipe))
    gated()  # update 0 detects

    times = interleave(
        {"plain": plain, "driven": driven, "gated": gated}, rounds=args.rounds, budget=args.seconds
    )
    report.add(
        Row.timed("step with worm / without", times, "driven", "plain", target=1.01),
        Row.timed("step with worm(every=n) / without", times, "gated", "plain", target=1.01),
    )
    report.add(*cost_rows("with worm / without", driven, plain, target=1.01))
    report.add(*cost_rows("with worm(every=n) / without", gated, plain, target=1.01))
    report.note("compile a step without worm", plain.compile_seconds)
    report.note("compile a step with worm", driven.compile_seconds)
    report.note("compile a step with worm(every=n)", gated.compile_seconds)

    def detect():
        return wj.detect(driven.state.params, driven.state.opt_state)

    def detecting():
        gated.state = _rewound(gated.state)
        return gated()

    detect()  # compiles
    few, budget = max(args.rounds // 6, 2), args.seconds / 3
    times = interleave({"detect": detect, "plain": plain}, rounds=few, budget=budget)
    report.add(Row.timed("wj.detect / step", times, "detect", "plain", target=1.0))
    times = interleave({"detecting": detecting, "plain": plain}, rounds=few, budget=budget)
    report.add(Row.timed("step that detects / without", times, "detecting", "plain", target=2.0))
    return report.finish(args.json)


def _rewound(state: TrainState) -> TrainState:
    """Set the counter of ``worm(every=n)`` back to a detection."""

    def is_worm(node):
        return isinstance(node, wj.WormState)

    def rewind(node):
        return (
            dataclasses.replace(node, count=jnp.zeros_like(node.count)) if is_worm(node) else node
        )

    opt_state = jax.tree.map(rewind, state.opt_state, is_leaf=is_worm)
    return dataclasses.replace(state, opt_state=opt_state)


if __name__ == "__main__":
    main()
