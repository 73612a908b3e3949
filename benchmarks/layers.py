"""What removing blocks gains: a ResNet and a transformer lose half of their residual branches.

Run ``python -m benchmarks.layers``. What it shows, for training steps:

- how much faster than the dense network the ticket is, which is to be at least 0.9 of the ratio of their
  multiply-accumulates;
- the ticket against the same network of fewer blocks, defined natively: the compiled programs say without a clock
  that they are the same, floating-point operations within 1%.

Before anything is timed, the ticket must agree with the dense network whose branches are switched off. Ratios are of
times in turn, round by round: of processor time, which a neighbour on the machine does not lengthen, or with
``--wall`` of the clock on the wall. A question mark in the last column says that the noise of the machine could have
decided the verdict.
"""

import argparse
import functools
import time
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
from benchmarks._timing import interleave
from experiments.models import ResNetConfig, abstract, build, fewer_blocks
from experiments.training import init_state, make_step
from wormjax import layers
from wormjax.adapters import View
from wormjax.evaluation import macs

OF_FLOPS, SAME_PROGRAM = 0.9, 1.01


class Network(NamedTuple):
    """A dense network and a batch.

    Attributes:
      dense: with weights.
      inputs: a batch.
      labels: its classes.
      native: makes the same network of fewer blocks of a ticket, or None where there is no such definition.
    """

    dense: View
    inputs: Array
    labels: Array
    native: Callable[[Any], View] | None = None


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print and return the rows."""
    flags = parser(__doc__, rounds=15, seconds=60.0)
    flags.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    flags.add_argument("--batch", type=int, default=8, help="examples a step (%(default)s)")
    flags.add_argument("--side", type=int, default=32, help="pixels of a side (%(default)s)")
    flags.add_argument("--tokens", type=int, default=128, help="of the encoder (%(default)s)")
    flags.add_argument("--width", type=int, default=64, help="of the first layers (%(default)s)")
    flags.add_argument("--blocks", type=int, default=4, help="of a stage (%(default)s)")
    flags.add_argument("--wall", action="store_true", help="time by the wall, not the processor")
    args = flags.parse_args(argv)
    report = Report("benchmarks.layers", argv)
    for name in args.networks:
        report.add(*_rows(name, NETWORKS[name](args), args))
    return report.finish(args.json)


def _rows(what: str, network: Network, args: argparse.Namespace) -> list[Row]:
    """Time dense network, ticket and native network in turn."""
    train = functools.partial(network.dense.apply, train=True)
    dense = network.dense
    found = layers.candidates(dense.apply, dense.params, network.inputs, state=dense.state)
    names = found.names[: len(found) // 2]
    ticket = layers.remove(found, names, dense.params, state=dense.state)
    _check(network, found, names, ticket)
    views = {
        "dense": View(train, dense.params, dense.state),
        "ticket": View(ticket.apply.of(train), ticket.params, ticket.state),
    }
    if network.native is not None:
        small = network.native(ticket)
        views["native"] = View(
            functools.partial(small.apply, train=True), small.params, small.state
        )
    runs: dict[str, Any] = {name: _stepper(view, network) for name, view in views.items()}
    clock = time.perf_counter if args.wall else time.process_time
    times = interleave(runs, rounds=args.rounds, budget=args.seconds, clock=clock)
    counts = [macs(v.apply, v.params, v.state, network.inputs) for v in views.values()][:2]
    bound = OF_FLOPS * counts[0] / counts[1]
    rows = [
        Row.timed(
            f"{what} step, dense / ticket", times, "dense", "ticket", target=bound, at_least=True
        ),
        Row.counted(f"{what}, dense / ticket multiply-accumulates", *counts),
    ]
    if network.native is not None:
        rows.append(Row.timed(f"{what} step, ticket / native", times, "ticket", "native"))
        pair = runs["ticket"], runs["native"]
        rows += cost_rows(f"of {what} step, ticket / native", *pair, target=SAME_PROGRAM)
    return rows


def _stepper(view: View, network: Network) -> Stepper:
    """Return a compiled training step that carries its state."""
    tx = optax.sgd(1e-3, momentum=0.9)

    def apply(params: Any, state: Any, inputs: Array, train: bool) -> Any:
        del train  # settled before
        return view.apply(params, state, inputs)

    state = init_state(view.params, view.state, tx, jax.random.key(1))
    return Stepper(make_step(apply, tx), state, network.inputs, network.labels)


def _check(network: Network, found: layers.Candidates, names: Sequence[str], ticket: Any) -> None:
    """Raise unless the ticket computes what the dense network does with those branches off."""
    gates = jnp.asarray([float(name not in names) for name in found.names])
    dense = network.dense
    want, _ = jax.jit(layers.switched(found))(gates, dense.params, dense.state, network.inputs)
    have, _ = jax.jit(ticket.apply)(ticket.params, ticket.state, network.inputs)
    if not np.allclose(have, want, atol=1e-4 * float(jnp.abs(want).max())):
        raise AssertionError("The ticket is not the switched network: there is nothing to time.")


def _resnet(args: argparse.Namespace) -> Network:
    widths = (args.width, 2 * args.width)
    config = ResNetConfig(blocks=args.blocks, widths=widths, shortcut="B", scale_init=1.0)

    def native(ticket: Any) -> View:
        small = fewer_blocks(config, ticket.params, ticket.state)
        return View(abstract(small.config).apply, small.params, small.state)

    images, labels = jax.random.split(jax.random.key(0))
    return Network(
        build(config, jax.random.key(2)),
        jax.random.normal(images, (args.batch, args.side, args.side, 3)),
        jax.random.randint(labels, (args.batch,), 0, 10, dtype=jnp.int32),
        native,
    )


def _encoder(args: argparse.Namespace) -> Network:
    depth, width = 32, 4 * args.width
    config = EncoderConfig(
        args.blocks,
        width,
        width // depth,
        depth,
        4 * width,
        vocabulary=1000,
        positions=args.tokens,
    )
    tokens, labels = jax.random.split(jax.random.key(0))
    return Network(
        build_large(config, jax.random.key(2)),
        jax.random.randint(tokens, (args.batch, args.tokens), 0, 1000, dtype=jnp.int32),
        jax.random.randint(labels, (args.batch,), 0, 10, dtype=jnp.int32),
    )


NETWORKS: dict[str, Callable[[Any], Network]] = {"ResNet": _resnet, "transformer": _encoder}


if __name__ == "__main__":
    main()
