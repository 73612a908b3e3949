"""What a shrunk network gains: VGG-16, ResNet-18 and a transformer, pruned to half of every width.

Run ``python -m benchmarks.shrink``. What it shows, for training steps and for inference:

- the shrunk network takes at most 1.10 times the same narrow network built from scratch, natively; the compiled
  programs say the same without a clock: floating-point operations within 1%, and bytes accessed;
- how much faster than the dense network it is, beside the ratio of their multiply-accumulates; the narrow network's
  own gain is the most that can be had;
- for inference, the gain that the measured table of widths foretells (what ``plan(latency=...)`` counts) over the
  gain that is measured.

Before anything is timed, the shrunk network must agree with the masked one. Image networks see maps of at least 3x3:
XLA:CPU is over 100 times too slow at a 3x3 convolution of a 2x2 map, and a dense baseline with one gains nothing to
be proud of. Ratios are of times in turn, round by round. A question mark in the last column says that the noise of the
machine could have decided the verdict.
"""

import argparse
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from benchmarks._large import EncoderConfig
from benchmarks._large import build as build_large
from benchmarks._network import Stepper, cost_rows
from benchmarks._report import Report, parser
from benchmarks._rows import Row
from benchmarks._timing import Samples, compiled, interleave
from experiments.models import NAMED, ModelConfig, ResNetConfig, VGGConfig, build
from experiments.training import init_state, make_step
from wormjax import apply_masks
from wormjax.adapters import View
from wormjax.structure import Groups, Plan, Ticket, find_groups, plan, shrink
from wormjax.structure._alignment import load_alignment
from wormjax.structure._costs import contractions
from wormjax.structure._latency import Latency

FROM_SCRATCH, SAME_PROGRAM = 1.10, 1.01


class Network(NamedTuple):
    """A dense network, its narrow twin, and inputs for both.

    Attributes:
      dense: with weights.
      narrow: defined at half the widths, with weights of its own.
      inputs: a batch.
      labels: its classes.
      whole: the sizes of groups that are not pruned.
    """

    dense: View
    narrow: View
    inputs: Array
    labels: Array
    whole: tuple[int, ...] = ()


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print and return the rows."""
    flags = parser(__doc__, rounds=15, seconds=60.0)
    flags.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    flags.add_argument("--batch", type=int, default=8, help="examples a step (%(default)s)")
    flags.add_argument("--side", type=int, default=48, help="pixels of a side (%(default)s)")
    flags.add_argument("--tokens", type=int, default=128, help="of the encoder (%(default)s)")
    flags.add_argument("--width", type=int, default=64, help="of the first layers (%(default)s)")
    args = flags.parse_args(argv)
    report = Report("benchmarks.shrink", argv)
    for name in args.networks:
        network = NETWORKS[name](args)
        report.add(*_rows(f"{name} step", network, True, args))
        report.add(*_rows(f"{name} inference", network, False, args))
    return report.finish(args.json)


def _rows(what: str, network: Network, train: bool, args: argparse.Namespace) -> list[Row]:
    """Time dense, shrunk and narrow network in turn."""
    dense, narrow = (_in_mode(view, train) for view in (network.dense, network.narrow))
    halved = _halved(network, dense)
    ticket = shrink(halved, dense.params, dense.state)
    _check(network, halved, ticket, dense)
    small = View(ticket.apply, ticket.params, ticket.state)
    views = {"dense": dense, "shrunk": small, "narrow": narrow}
    runs: dict[str, Any]
    if train:
        runs = {name: _stepper(view, network) for name, view in views.items()}
    else:
        runs = {name: _forward(view, network) for name, view in views.items()}
    times = interleave(runs, rounds=args.rounds, budget=args.seconds)
    rows = [
        Row.timed(f"{what}, shrunk / narrow", times, "shrunk", "narrow", target=FROM_SCRATCH),
        Row.timed(f"{what}, dense / shrunk", times, "dense", "shrunk"),
        Row.timed(f"{what}, dense / narrow", times, "dense", "narrow"),
        Row.counted(f"{what}, dense / shrunk multiply-accumulates", *halved.macs),
    ]
    if train:
        pair = runs["shrunk"], runs["narrow"]
        return rows + cost_rows(f"of {what}, shrunk / narrow", *pair, target=SAME_PROGRAM)
    return [*rows, _foretold(what, halved, times)]


def _in_mode(view: View, train: bool) -> View:
    return View(functools.partial(view.apply, train=train), view.params, view.state)


def _stepper(view: View, network: Network) -> Stepper:
    """Return a compiled training step that carries its state."""
    tx = optax.sgd(1e-3, momentum=0.9)

    def apply(params: Any, state: Any, inputs: Array, train: bool) -> Any:
        del train  # settled before
        return view.apply(params, state, inputs)

    state = init_state(view.params, view.state, tx, jax.random.key(1))
    return Stepper(make_step(apply, tx), state, network.inputs, network.labels)


def _forward(view: View, network: Network) -> Callable[[], Any]:
    """Return a compiled forward pass."""
    arguments = (view.params, view.state, network.inputs)
    executable, _ = compiled(view.apply, *arguments)
    return functools.partial(executable, *arguments)


def _halved(network: Network, view: View) -> Plan:
    """Keep the better half of every group."""
    groups = find_groups(view.apply, view.params, network.inputs, state=view.state)
    made = plan(groups, jax.tree.map(jnp.abs, view.params), keep=0.5, scope="group")
    whole = {g.name: np.ones(g.size, bool) for g in groups if g.size in network.whole}
    return dataclasses.replace(made, kept={**made.kept, **whole})


def _check(network: Network, halved: Plan, ticket: Ticket, view: View) -> None:
    """Raise unless the shrunk network has the narrow one's shapes and the masked one's values."""
    ours, theirs = (jax.tree.map(jnp.shape, p) for p in (ticket.params, network.narrow.params))
    if ours != theirs:
        raise AssertionError(f"The shrunk network is not the narrow one: {ours} against {theirs}.")
    masked = apply_masks(view.params, halved.masks)
    want, _ = jax.jit(view.apply)(masked, view.state, network.inputs)
    have, _ = jax.jit(ticket.apply)(ticket.params, ticket.state, network.inputs)
    if not np.allclose(have, want, atol=1e-4 * float(jnp.abs(want).max())):
        raise AssertionError("The shrunk network is not the masked one: there is nothing to time.")


def _foretold(what: str, halved: Plan, times: Samples) -> Row:
    """Compare the gain that the table of widths foretells with the measured one."""
    groups: Groups = halved.groups
    table = load_alignment(jax.default_backend())
    model = Latency(groups, contractions(groups.traced), table)
    counts = {g.atom: halved.widths[g.name] for g in groups}
    gain = model.total({}) / model.total(counts)
    name = f"{what}, foretold / measured gain ({gain:.2f} foretold)"
    return Row.counted(name, gain, times.ratio("dense", "shrunk").median)


def _images(args: argparse.Namespace) -> tuple[Array, Array]:
    images, labels = jax.random.split(jax.random.key(0))
    return (
        jax.random.normal(images, (args.batch, args.side, args.side, 3)),
        jax.random.randint(labels, (args.batch,), 0, 10, dtype=jnp.int32),
    )


def _vgg16(args: argparse.Namespace) -> Network:
    def config(width: int) -> VGGConfig:
        standard = NAMED["vgg16"]
        assert isinstance(standard, VGGConfig)
        return VGGConfig(tuple(w if w == "M" else w * width // 64 for w in standard.widths))

    return _of_images(config, args)


def _resnet18(args: argparse.Namespace) -> Network:
    def config(width: int) -> ResNetConfig:
        stages = (width, 2 * width, 4 * width, 8 * width)
        return ResNetConfig(blocks=2, widths=stages, shortcut="B")

    return _of_images(config, args)


def _of_images(config: Callable[[int], ModelConfig], args: argparse.Namespace) -> Network:
    dense, narrow = (
        build(config(w), jax.random.key(2 + k)) for k, w in enumerate((args.width, args.width // 2))
    )
    return Network(dense, narrow, *_images(args))


def _encoder(args: argparse.Namespace) -> Network:
    """Four layers; heads keep their depth, and half of them go."""
    depth, width = 32, 4 * args.width

    def config(width: int) -> EncoderConfig:
        return EncoderConfig(
            4, width, width // depth, depth, 4 * width, vocabulary=1000, positions=args.tokens
        )

    dense, narrow = (
        build_large(config(w), jax.random.key(2 + k)) for k, w in enumerate((width, width // 2))
    )
    tokens, labels = jax.random.split(jax.random.key(0))
    return Network(
        dense,
        narrow,
        jax.random.randint(tokens, (args.batch, args.tokens), 0, 1000, dtype=jnp.int32),
        jax.random.randint(labels, (args.batch,), 0, 10, dtype=jnp.int32),
        whole=(depth,),
    )


NETWORKS: dict[str, Callable[[Any], Network]] = {
    "VGG-16": _vgg16,
    "ResNet-18": _resnet18,
    "transformer": _encoder,
}


if __name__ == "__main__":
    main()
