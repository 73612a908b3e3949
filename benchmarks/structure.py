"""Finding groups and shrinking at real sizes: ResNet-50 at 224x224 pixels and BERT-base, and both at growing depth.

Run ``python -m benchmarks.structure``. What it shows:

- `wormjax.structure.find_groups` takes below 5 s for each, and less than 1 GiB of memory beyond the parameters
  (the highest resident size of a fresh process, less its size before);
- `wormjax.structure.shrink` of parameters, state and Adam's state, half of every group gone, takes below 2 s, with
  whatever it compiles;
- both grow with the depth, not faster: a tenth beyond proportion is allowed for the clock.

Seconds are those that the process computes, in all its threads: others on the machine do not count. They are those of
the first call, where nothing is cached yet, and of the growth medians of later ones.
"""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks._large import EncoderConfig, ResNetConfig, abstract, build
from benchmarks._report import Report, parser
from benchmarks._rows import Row
from benchmarks._timing import interleave
from wormjax.structure import Groups, find_groups, plan, shrink

SECONDS_TO_FIND, SECONDS_TO_SHRINK, BYTES = 5.0, 2.0, 2**30
LINEAR = 1.1
IMAGE, TOKENS = 224, 128
LARGE: dict[str, ResNetConfig | EncoderConfig] = {
    "ResNet-50": ResNetConfig(),
    "BERT-base": EncoderConfig(),
}
# depths that double: blocks of the third stage beside one in the others, and layers
DEEPER: dict[str, list[ResNetConfig | EncoderConfig]] = {
    "blocks": [ResNetConfig(blocks=(1, 1, n, 1)) for n in (6, 12, 24)],
    "layers": [EncoderConfig(n, 256, heads=4, hidden=1024, vocabulary=1000) for n in (3, 6, 12)],
}


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print and return the rows."""
    flags = parser(__doc__, rounds=5, seconds=30.0)
    args = flags.parse_args(argv)
    report = Report("benchmarks.structure", argv)
    for name, config in LARGE.items():
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            seconds, extra = fresh.apply(first_find, (config,))
        bound = f"find_groups of {name} / {SECONDS_TO_FIND:g} s"
        report.add(Row.counted(bound, seconds, SECONDS_TO_FIND, target=1.0))
        report.add(Row.counted(f"memory of find_groups, {name} / 1 GiB", extra, BYTES, target=1.0))
        report.note(f"find_groups of {name}", seconds)
    for name, config in LARGE.items():
        cut = shrinking(config)
        seconds = interleave({"cut": cut}, rounds=1, warmup=0, clock=time.process_time).median(
            "cut"
        )
        bound = f"shrink of {name} / {SECONDS_TO_SHRINK:g} s"
        report.add(Row.counted(bound, seconds, SECONDS_TO_SHRINK, target=1.0))
        report.note(f"shrink of {name}", seconds)
    for unit, configs in DEEPER.items():
        for what, function in (("find_groups", finding), ("shrink", shrinking)):
            depths = {str(_depth(c)): function(c) for c in configs}
            times = interleave(
                depths, rounds=args.rounds, budget=args.seconds, clock=time.process_time
            )
            shallow, *deeper = depths
            for deep in deeper:
                name = f"{what} of {deep} / {shallow} {unit}"
                target = LINEAR * int(deep) / int(shallow)
                report.add(Row.timed(name, times, deep, shallow, target=target))
    return report.finish(args.json)


def finding(config: ResNetConfig | EncoderConfig) -> Callable[[], Groups]:
    """Return what finds the groups of a network that has no weights."""
    view = abstract(config)
    return lambda: find_groups(view.apply, view.params, _input(config), state=view.state)


def first_find(config: ResNetConfig | EncoderConfig) -> tuple[float, int]:
    """Return the seconds and the most bytes that finding groups takes in a fresh process, which calls this."""
    find = finding(config)
    before = _resident()
    seconds = interleave({"find": find}, rounds=1, warmup=0, clock=time.process_time).median("find")
    return seconds, max(_most_resident() - before, 0)


def shrinking(config: ResNetConfig | EncoderConfig) -> Callable[[], Any]:
    """Return what cuts half of every group."""
    view, groups = build(config, jax.random.key(0)), finding(config)()
    tx = optax.adam(1e-3)
    halved = plan(groups, jax.tree.map(jnp.abs, view.params), keep=0.5, scope="group")
    arguments: Any = (halved, view.params, view.state, jax.jit(tx.init)(view.params), tx)
    jax.block_until_ready(arguments[1:4])

    def cut() -> Any:
        ticket = shrink(*arguments)
        return ticket.params, ticket.state, ticket.opt_state

    return cut


def _most_resident() -> int:
    """The largest resident size of this process so far, in bytes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def _resident() -> int:
    """The resident size of this process now; where the system does not tell, the largest so far."""
    told = Path("/proc/self/statm")
    return (
        int(told.read_text().split()[1]) * resource.getpagesize()
        if told.is_file()
        else _most_resident()
    )


def _input(config: ResNetConfig | EncoderConfig) -> jax.ShapeDtypeStruct:
    if isinstance(config, ResNetConfig):
        return jax.ShapeDtypeStruct((1, IMAGE, IMAGE, 3), jnp.float32)
    return jax.ShapeDtypeStruct((1, TOKENS), jnp.int32)


def _depth(config: ResNetConfig | EncoderConfig) -> int:
    return config.blocks[2] if isinstance(config, ResNetConfig) else config.layers


if __name__ == "__main__":
    main()
