r"""What sparse training costs: an MLP of 4 M parameters and ResNet-20, batch 128.

Run ``python -m benchmarks.dst``. What it shows:

- between mask updates a jitted and donated step with `wormjax.sparse_training` takes at most 1.03 times the
  dense step of the same optimizer, and a mask update at most three ordinary steps more;
- the compiled programs say without a clock what a step between updates moves: bytes that go in and out of the
  operations outside loops and conditionals. Masks are read twice, once with the momentum and once with the weights;
- one program whatever the step, and eight seeds by `jax.vmap` share one gate: none updates masks when it is not time;
- the same mask update by sorting, JaxPruner's way, takes at least 20 times as long, and gives the same masks;
- packed masks take one bit an entry.

Times are CPU times on CPUs, and ratios are of times in turn, round by round. A question mark in the last column says
that the noise of the machine could have decided the verdict.
"""

import argparse
import dataclasses
import functools
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, PyTree

import wormjax as wj
from benchmarks._network import RECIPE, STEPS_PER_EPOCH, Problem, add_flags, problem
from benchmarks._report import Report, parser
from benchmarks._rows import Row
from benchmarks._timing import interleave
from experiments.models import MLPConfig, build

EVERY = 10**6
DENSITY, DROP = 0.1, 0.25
LANES = 8


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print and return the rows."""
    flags = parser(__doc__, rounds=30, seconds=6.0)
    add_flags(flags)
    flags.add_argument(
        "--hidden", type=int, default=1640, help="width of the MLP's two layers (%(default)s)"
    )
    flags.add_argument("--sort-rounds", type=int, default=1, help="sorts timed (%(default)s)")
    args = flags.parse_args(argv)
    report = Report("benchmarks.dst", argv)
    mlp = _mlp(args)
    for name, given, recipe in (
        ("MLP", mlp, optax.sgd(0.1, momentum=0.9)),
        ("ResNet", problem(args), RECIPE.optimizer(STEPS_PER_EPOCH)),
    ):
        report.add(*_step_rows(report, name, given, recipe, args))
    report.add(_sorting_row(mlp.view.params, args.sort_rounds))
    report.add(*_program_rows())
    report.add(_packed_row(mlp.view.params))
    return report.finish(args.json)


def _mlp(args: argparse.Namespace) -> Problem:
    config = MLPConfig(widths=(args.hidden, args.hidden), inputs=784)
    images, labels = jax.random.split(jax.random.key(0))
    return Problem(
        build(config, jax.random.key(2)),
        jax.random.normal(images, (args.batch, 784)),
        jax.random.randint(labels, (args.batch,), 0, 10, dtype=jnp.int32),
    )


def sparse(inner: optax.GradientTransformation, every: int = EVERY, **settings) -> Any:
    """Return the transformation that is measured: magnitude drops, the gradient grows."""
    return wj.sparse_training(
        inner,
        key=jax.random.key(1),
        density=DENSITY,
        schedule=wj.dst.schedules.constant(DROP),
        every=every,
        stop=2**31 - 1,
        **settings,
    )


def _step_rows(
    report: Report, name: str, given: Problem, recipe: Any, args: argparse.Namespace
) -> list[Row]:
    """Time steps between mask updates and with one beside the dense step."""
    dense, masked = given.stepper(recipe), given.stepper(sparse(recipe))
    report.note(f"compile a dense step, {name}", dense.compile_seconds)
    report.note(f"compile a step with masks, {name}", masked.compile_seconds)

    def updating():
        masked.state = _due(masked.state)
        return masked()

    times = interleave(
        {"dense": dense, "masked": masked, "updating": updating},
        rounds=args.rounds,
        budget=args.seconds,
        clock=_clock(),
    )
    rows = [
        Row.timed(f"{name}: step with masks / dense", times, "masked", "dense", target=1.03),
        Row.timed(
            f"{name}: step that updates masks / dense", times, "updating", "dense", target=4.0
        ),
    ]
    moved = [bytes_outside(stepper.text) for stepper in (masked, dense)]
    if min(moved) > 0:
        rows.append(Row.counted(f"{name}: bytes of a step with masks / dense", *moved))
    return rows


def _clock() -> Callable[[], float]:
    """CPU time, of all threads, where that is the device's time."""
    return time.process_time if jax.default_backend() == "cpu" else time.perf_counter


def _due(state: Any) -> Any:
    """Set the counter to one step before a mask update."""

    def is_sparse(node):
        return isinstance(node, wj.dst.SparseState)

    def wind(node):
        return dataclasses.replace(node, count=jnp.int32(EVERY - 1)) if is_sparse(node) else node

    return dataclasses.replace(
        state, opt_state=jax.tree.map(wind, state.opt_state, is_leaf=is_sparse)
    )


def sorting_rule(
    mask: Bool[Array, "..."], weight: Float[Array, "..."], gradient: Float[Array, "..."]
) -> Bool[Array, "..."]:
    """One mask update of a leaf as JaxPruner does it: rank everything twice."""
    low = -jnp.inf
    active = jnp.sum(mask, dtype=jnp.int32)
    moved = jnp.ceil(active.astype(jnp.float32) * DROP).astype(jnp.int32)
    stay = _first(jnp.where(mask, jnp.abs(weight), low), active - moved)
    return stay | _first(jnp.where(stay, low, jnp.abs(gradient)), moved)


def _first(scores: Array, count: Array) -> Array:
    order = jnp.argsort(-scores.ravel(), stable=True)
    ranks = jnp.zeros(order.shape, jnp.int32).at[order].set(jnp.arange(order.size, dtype=jnp.int32))
    return (ranks < count).reshape(scores.shape)


def _sorting_row(params: PyTree, rounds: int) -> Row:
    """Time a mask update with its optimizer step beside the same update by sorting."""
    tx = sparse(optax.sgd(0.1), every=1)
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    grads = jax.tree.unflatten(
        treedef, [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    )
    state = tx.init(params)
    masks = wj.masks_of(state, params)
    params = wj.apply_masks(params, masks)
    update = jax.jit(tx.update)

    def rank(masks, params, grads):
        return jax.tree.map(
            lambda m, w, g: sorting_rule(m, w, g) if m.ndim else m, masks, params, grads
        )

    ranked = jax.jit(rank)
    contenders = {
        "ours": functools.partial(update, grads, state, params),
        "sorted": functools.partial(ranked, masks, params, grads),
    }
    ours = wj.masks_of(contenders["ours"]()[1], params)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(contenders["sorted"]()), strict=True):
        if not np.array_equal(a, b):
            raise AssertionError("The mask updates disagree: there is nothing to time.")
    times = interleave(contenders, rounds=rounds, warmup=0, clock=_clock())
    return Row.timed(
        "mask update by sorting / ours", times, "sorted", "ours", target=20.0, at_least=True
    )


def _program_rows() -> list[Row]:
    """Count programs over steps with and without a mask update, and what gates it for eight seeds."""
    params = {"kernel": jax.random.normal(jax.random.key(0), (16, 16))}
    tx = sparse(optax.sgd(0.1, momentum=0.9), every=2)
    traced = []

    def update(grads: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        traced.append(1)
        return tx.update(grads, state, params)

    compiled, state = jax.jit(update), tx.init(params)
    for _ in range(4):
        _, state = compiled(params, state, params)
    axes = wj.seed_axes(state)
    many = jax.tree.map(lambda x: jnp.stack([x] * LANES), params)
    states = jax.vmap(tx.init, out_axes=axes)(many)
    lanes = jax.jit(jax.vmap(tx.update, (0, axes, 0), (0, axes)))
    text = lanes.lower(many, states, many).compile().as_text() or ""
    return [
        Row.counted("programs over mask updates / one", len(traced), 1, target=1.0),
        Row.counted(f"gates of {LANES} seeds / one", gates(text), 1, target=1.0),
    ]


def gates(text: str) -> int:
    """Count conditionals, and loops that one flag starts; a flag for every lane makes none."""
    return len(re.findall(r"= \(pred\[\],.* while\(| conditional\(", text))


def _packed_row(params: PyTree) -> Row:
    masks = jax.eval_shape(sparse(optax.sgd(0.1), packed=True).init, params).masks
    bits = [x for x in jax.tree.leaves(masks) if x.ndim]
    entries = sum(x.size for x in jax.tree.leaves(params) if x.ndim > 1)
    return Row.counted(
        "bits of packed masks / entries", 8 * sum(x.size for x in bits), entries, target=1.01
    )


WIDTHS = {"pred": 1, "8": 1, "16": 2, "32": 4, "64": 8}
FREE = {
    "parameter", "tuple", "get-tuple-element", "bitcast", "constant", "while", "conditional"
}  # fmt: skip


def bytes_outside(text: str) -> int:
    """Sum what the operations of a program's entry read and write; 0 where it is not to be read.

    What loops and conditionals do within does not count, thus no mask update.
    """
    sizes, total = {}, 0
    for line in text.partition("\nENTRY ")[2].splitlines():
        found = re.match(r"\s*(?:ROOT )?%?([\w.-]+) = (.*?) ([\w-]+)\((.*)", line)
        if found is None:
            continue
        name, shape, kind, rest = found.groups()
        sizes[name] = _bytes(shape)
        if kind not in FREE:
            operands = re.findall(r"%([\w.-]+)", rest.partition(")")[0])
            total += sizes[name] + sum(sizes.get(operand, 0) for operand in operands)
    return total


def _bytes(shape: str) -> int:
    """Return the bytes of a shape as HLO writes it, of a tuple's parts together."""
    arrays = re.findall(r"\b(pred|[a-z]+?(\d+))\[([\d,]*)\]", shape)
    return sum(
        WIDTHS.get(bits or kind, 0) * math.prod(map(int, filter(None, axes.split(","))))
        for kind, bits, axes in arrays
    )


if __name__ == "__main__":
    main()
