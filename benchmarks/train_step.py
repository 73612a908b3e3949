"""Our training step against the plainest one: ResNet-20, batch 128, 32x32 pixels.

Run ``python -m benchmarks.train_step``. What it shows:

- a jitted and donated step of `experiments.training` takes at most 1.02 times the plainest hand-written JAX
  step of the same net (`benchmarks._plain`); before they are timed, both must see the same losses;
- the compiled programs say the same without a clock: floating-point operations and bytes accessed;
- beside PyTorch's step of the same net, which is optional and skipped with a sentence;
- where the step's time goes: the forward pass, the gradients of the convolutions with respect to inputs and
  to weights, and the rest (BatchNorm's and ReLU's gradients, the loss, the optimizer).

Ratios are of times in turn, round by round. A question mark in the last column says that the noise of the
machine could have decided the verdict.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import _plain
from benchmarks._network import RECIPE, STEPS_PER_EPOCH, Stepper, add_flags, cost_rows, problem
from benchmarks._parts import part_rows
from benchmarks._report import Report, parser
from benchmarks._rows import Row
from benchmarks._timing import interleave
from benchmarks._torch import TorchStep, find_torch


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print and return the rows."""
    flags = parser(__doc__, rounds=40, seconds=60.0)
    add_flags(flags)
    args = flags.parse_args(argv)
    report, given, torch = Report("benchmarks.train_step", argv), problem(args), find_torch()
    view, batch = given.view, (given.images, given.labels)

    ours = given.stepper(RECIPE.optimizer(STEPS_PER_EPOCH))
    plain = Stepper(_plain.step, _plain.init(view.params, view.state), *batch)
    contenders: dict[str, Callable[[], Any]] = {"ours": ours, "plain": plain}
    losses = {"ours": lambda: ours()[1].loss_sum / args.batch, "plain": lambda: plain()[1]}
    if torch is not None:
        peer = TorchStep(torch, view.params, view.state, *batch)
        contenders["torch"] = losses["torch"] = peer
    _check(losses)

    times = interleave(contenders, rounds=args.rounds, budget=args.seconds)
    report.add(Row.timed("our step / plain JAX step", times, "ours", "plain", target=1.02))
    report.add(*cost_rows("of our step / plain JAX step", ours, plain, target=1.02))
    if torch is not None:
        report.add(Row.timed("our step / PyTorch's step", times, "ours", "torch"))
    report.note("compile our step", ours.compile_seconds)
    report.note("compile the plain step", plain.compile_seconds)
    report.add(*part_rows(given, args.rounds, args.seconds))
    return report.finish(args.json)


def _check(losses: Mapping[str, Callable[[], Any]]) -> None:
    """Raise unless all see the same loss three times: what is timed is the same."""
    seen = {name: [float(loss()) for _ in range(3)] for name, loss in losses.items()}
    for name, values in seen.items():
        if not np.allclose(values, seen["plain"], rtol=1e-3):
            raise AssertionError(f"{name} is not the step of the others: losses {seen}.")


if __name__ == "__main__":
    main()
