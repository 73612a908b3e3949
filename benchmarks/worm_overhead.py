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
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

import wormjax as wj
from benchmarks._network import Problem, add_flags, problem
from benchmarks._report import Report, Row, parser
from benchmarks._timing import compiled, interleave
from experiments.training import TrainState, make_step

EVERY = 10**9  # detects at update 0 only


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print and return the rows."""
    flags = parser(__doc__, rounds=60, seconds=30.0)
    add_flags(flags)
    args = flags.parse_args(argv)
    report, given = Report("benchmarks.worm_overhead", argv), problem(args)

    plain = Stepper(given, given.recipe)
    driven = Stepper(given, optax.chain(wj.worm(wj.scores.norm_scale), given.recipe))
    gated = Stepper(given, optax.chain(wj.worm(wj.scores.norm_scale, every=EVERY), given.recipe))
    gated()  # update 0 detects

    times = interleave(
        {"plain": plain, "driven": driven, "gated": gated}, rounds=args.rounds, budget=args.seconds
    )
    report.add(
        Row.timed("step with worm / without", times, "driven", "plain", target=1.01),
        Row.timed("step with worm(every=n) / without", times, "gated", "plain", target=1.01),
    )
    for name, stepper in (("worm", driven), ("worm(every=n)", gated)):
        for key in ("flops", "bytes accessed"):
            costs = stepper.costs.get(key, 0.0), plain.costs.get(key, 0.0)
            if min(costs) > 0:  # a backend may not count
                report.add(Row.counted(f"{key} with {name} / without", *costs, target=1.01))

    def detect():
        return wj.detect(driven.state.params, driven.state.opt_state)

    report.note("compile a step without worm", plain.compile_seconds)
    report.note("compile a step with worm", driven.compile_seconds)
    report.note("compile a step with worm(every=n)", gated.compile_seconds)
    detect()  # compiles
    few, budget = max(args.rounds // 6, 2), args.seconds / 3
    times = interleave({"detect": detect, "plain": plain}, rounds=few, budget=budget)
    report.add(Row.timed("wj.detect / step", times, "detect", "plain", target=1.0))
    times = interleave({"detecting": gated.detecting, "plain": plain}, rounds=few, budget=budget)
    report.add(Row.timed("step that detects / without", times, "detecting", "plain", target=2.0))
    return report.finish(args.json)


class Stepper:
    """A compiled, donated step that carries its own state from call to call."""

    def __init__(self, given: Problem, tx: optax.GradientTransformation):
        self.state: TrainState = given.state(tx)
        self._batch = (given.images, given.labels)
        step: Callable[..., Any] = make_step(given.view.apply, tx)
        self._step, self.compile_seconds = compiled(step, self.state, *self._batch, donate=(0,))

    @property
    def costs(self) -> dict[str, float]:
        """What the compiler counts: floating-point operations, bytes."""
        return self._step.cost_analysis() or {}

    def __call__(self) -> TrainState:
        """Take one step."""
        self.state, _ = self._step(self.state, *self._batch)
        return self.state

    def detecting(self) -> TrainState:
        """Take one step with the counter of ``worm(every=n)`` set back to a detection."""

        def rewind(node):
            known = isinstance(node, wj.WormState)
            return dataclasses.replace(node, count=jnp.zeros_like(node.count)) if known else node

        opt_state = jax.tree.map(
            rewind, self.state.opt_state, is_leaf=lambda node: isinstance(node, wj.WormState)
        )
        self.state = dataclasses.replace(self.state, opt_state=opt_state)
        return self()


if __name__ == "__main__":
    main()
