r"""How far truncated entries still move, by optimizer and by the truncation's place in the chain.

Run ``python -m benchmarks.placement``. Twin entries start equal and see the same gradients; after 500 dense
updates one of each pair is truncated with factor 0.003 for 20,000 more. Printed is the distance that the truncated
twins travelled over that of the live ones:

- placed first, `wormjax.truncate` scales gradients, as the WORM paper does; an optimizer that divides by its own
  gradient history (Adam, RMSProp) or takes the sign (Lion) undoes it, sooner or later;
- placed last it scales the displacement: the ratio is the factor for every optimizer.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

import wormjax as wj
from benchmarks._report import Report, parser
from benchmarks._rows import Row

FACTOR, RATE, PAIRS = 3e-3, 1e-3, 8
OPTIMIZERS = {
    "sgd": optax.sgd(RATE),
    "momentum 0.9": optax.sgd(RATE, momentum=0.9),
    "adam": optax.adam(RATE),
    "adamw": optax.adamw(RATE),
    "rmsprop": optax.rmsprop(RATE),
    "lion": optax.lion(RATE),
}


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print and return the rows."""
    flags = parser(__doc__)
    flags.add_argument("--warmup", type=int, default=500, help="dense updates before (%(default)s)")
    flags.add_argument("--steps", type=int, default=20_000, help="truncated updates (%(default)s)")
    args = flags.parse_args(argv)
    report = Report("benchmarks.placement", argv)
    for name, optimizer in OPTIMIZERS.items():
        live, truncated = travelled(optimizer, first=True, warmup=args.warmup, steps=args.steps)
        report.add(Row.counted(f"{name}, placed first: truncated / live", truncated, live))
        live, truncated = travelled(optimizer, first=False, warmup=args.warmup, steps=args.steps)
        target = 1.05 * FACTOR
        report.add(Row.counted(f"{name}, placed last: truncated / live", truncated, live, target))
    return report.finish(args.json)


def travelled(
    optimizer: optax.GradientTransformation, *, first: bool, warmup: int, steps: int
) -> tuple[float, float]:
    """Return how far the live and the truncated twins moved, summed over the pairs."""
    masks = {"scale": jnp.array([True, False] * PAIRS)}
    parts = [wj.truncate(masks, FACTOR), optimizer]
    tx = optax.chain(*(parts if first else parts[::-1]))
    drift = jax.random.uniform(jax.random.key(0), (PAIRS,), minval=0.5)

    @jax.jit
    def train(params, state, key, length: Array):
        def step(t, carry):
            params, state = carry
            noise = jax.random.normal(jax.random.fold_in(key, t), (PAIRS,))
            updates, state = tx.update({"scale": jnp.repeat(drift + noise, 2)}, state, params)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, length, step, (params, state))

    def with_factor(state, factor):
        def visit(node):
            known = isinstance(node, wj.TruncateState)
            return dataclasses.replace(node, factor=jnp.float32(factor)) if known else node

        return jax.tree.map(visit, state, is_leaf=lambda n: isinstance(n, wj.TruncateState))

    params = {"scale": jnp.ones(2 * PAIRS)}
    before, state = train(params, with_factor(tx.init(params), 1.0), jax.random.key(1), warmup)
    after, _ = train(before, with_factor(state, FACTOR), jax.random.key(2), steps)
    moved = np.abs(np.asarray(after["scale"], np.float64) - np.asarray(before["scale"], np.float64))
    return float(moved[::2].sum()), float(moved[1::2].sum())


if __name__ == "__main__":
    main()
