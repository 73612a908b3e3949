"""One epoch on the device at hand: images a second of our driver against what it could be.

Run ``python -m benchmarks.epoch`` (a CPU: ResNet-8, less than a minute) or
``python -m benchmarks.epoch --preset gpu`` (ResNet-18 with parameter-free shortcuts, 50,000 images of 32x32
pixels, batch 512, bfloat16). All contenders train the same network on the same uint8 images, which they
normalise; the epoch is over when its last step is. What it shows:

- `experiments.training.epoch_runner`, with its order drawn and its metrics summed on the device, takes at most
  1.05 times the plainest loop that can be written in JAX: one jitted, donated step (`benchmarks._plain`) called
  batch after batch on the same order;
- beside PyTorch, where it is installed: data on the device, channels last, the same precision by autocast,
  ``torch.compile`` where that works (the notes say);
- what `experiments.training.stream_runner` costs beside it, when the same images come as PNG files through
  Grain; where Grain is not installed these rows are skipped with a sentence.

Before they are timed, all must see the same mean loss in their first epoch. Ratios are of times in turn, round
by round. A question mark in the last column says that the noise of the machine could have decided the verdict.
"""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _plain
from benchmarks._network import RECIPE, add_flags
from benchmarks._report import Report, parser
from benchmarks._rows import Row
from benchmarks._timing import compiled, interleave
from benchmarks._torch import find_torch
from benchmarks._torch_epoch import TorchEpoch
from experiments.data import Decode, Record, Stream, StreamedSplit, epoch_order, normalise
from experiments.models import build, named
from experiments.training import (
    TrainState,
    epoch_runner,
    init_state,
    make_step,
    mean_loss,
    order_key,
    stack_seeds,
    stream_runner,
)
from wormjax.adapters import View

PRESETS: dict[str, dict[str, Any]] = {
    "cpu": {"images": 256, "batch": 32, "blocks": 1, "dtype": "float32"},
    "gpu": {
        "images": 50_000,
        "batch": 512,
        "blocks": 2,
        "widths": (64, 128, 256, 512),
        "dtype": "bfloat16",
        "rounds": 10,
        "seconds": 60.0,
        "workers": 8,
    },
}
MOMENTS = (0.5, 0.45, 0.4), (0.25, 0.24, 0.26)


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print and return the rows."""
    flags = parser(__doc__, rounds=7, seconds=25.0)
    flags.add_argument("--preset", choices=tuple(PRESETS), default="cpu", help="(%(default)s)")
    add_flags(flags)
    flags.add_argument("--images", type=int, help="images an epoch (%(default)s)")
    flags.add_argument("--dtype", choices=("float32", "bfloat16"), help="(%(default)s)")
    flags.add_argument("--workers", type=int, default=0, help="that decode (%(default)s)")
    flags.add_argument("--eager", action="store_true", help="do not try torch.compile")
    flags.set_defaults(**PRESETS[flags.parse_known_args(argv)[0].preset])
    args = flags.parse_args(argv)
    report, torch = Report("benchmarks.epoch", argv), find_torch(accelerated=True)

    rng = np.random.default_rng(0)
    pixels = _pixels(rng, args.images, args.side)
    labels = rng.integers(0, 10, args.images).astype(np.int32)
    config = named("resnet20", blocks=args.blocks, widths=args.widths, dtype=args.dtype)
    view = build(config, jax.random.key(2))
    on_device = jax.device_put((pixels, labels))

    ours = _Ours(view, args.batch, on_device)
    plain = _Plain(view, args.batch, args.dtype, on_device)
    contenders: dict[str, Callable[[], Any]] = {"ours": ours, "plain": plain}
    streamed = _streamed(view, args, pixels, labels)
    if streamed is not None:
        contenders["streamed"] = streamed
    if torch is not None:
        peer = TorchEpoch(
            torch,
            view.params,
            view.state,
            pixels,
            labels,
            MOMENTS,
            batch=args.batch,
            dtype=args.dtype,
            compiled=not args.eager,
        )
        contenders["torch"] = peer
        report.note("torch.compile", "yes" if peer.compiled else peer.trouble or "not asked for")
    _check(contenders)

    times = interleave(contenders, rounds=args.rounds, warmup=0, budget=args.seconds)
    report.add(Row.timed("our epoch / plain JAX loop", times, "ours", "plain", target=1.05))
    if torch is not None:
        report.add(Row.timed("our epoch / PyTorch's epoch", times, "ours", "torch"))
    if streamed is not None:
        report.add(Row.timed("streamed epoch / our epoch", times, "streamed", "ours"))
    used = args.images // args.batch * args.batch
    for name in contenders:
        report.note(f"images/s, {name}", f"{used / times.median(name):,.0f}")
    report.note("compile our epoch", ours.compile_seconds)
    report.note("compile the plain step", plain.compile_seconds)
    return report.finish(args.json)


class _Ours:
    """One epoch a call by the driver of `experiments.training`."""

    def __init__(self, view: View, batch: int, data: tuple[jax.Array, jax.Array]):
        step, self._state = _start(view, data[0].shape[0] // batch)
        self._run = epoch_runner(step, batch_size=batch)
        self._data = data
        self.compile_seconds = self._run.compile(self._state, *data)

    def __call__(self) -> jax.Array:
        self._state, metrics = self._run(self._state, *self._data)
        return mean_loss(metrics)


class _Streamed:
    """One epoch a call by the driver of `experiments.training` for streams."""

    def __init__(self, view: View, stream: Stream):
        step, self._state = _start(view, stream.steps_per_epoch)
        self._run, self._stream = stream_runner(step), stream

    def __call__(self) -> jax.Array:
        self._state, metrics = self._run(self._state, self._stream)
        return mean_loss(metrics)


class _Plain:
    """One epoch a call by a loop over the plain step, in the order of the others."""

    def __init__(self, view: View, batch: int, dtype: str, data: tuple[jax.Array, jax.Array]):
        self._state = jax.tree.map(jnp.copy, _plain.init(view.params, view.state))
        self._epoch, self._data = 0, data
        self._order = jax.jit(
            lambda epoch: epoch_order(
                order_key(jax.random.key(1)), epoch, size=data[0].shape[0], batch=batch
            )
        )
        rows = jax.ShapeDtypeStruct((batch,), jnp.int32)
        self._step, self.compile_seconds = compiled(
            functools.partial(_plain_step, dtype=dtype), self._state, *data, rows, donate=(0,)
        )

    def __call__(self) -> jax.Array:
        losses = []
        for rows in np.asarray(self._order(self._epoch)):
            self._state, loss = self._step(self._state, *self._data, rows)
            losses.append(loss)
        self._epoch += 1
        return jnp.stack(losses)


def _plain_step(state, images, labels, rows, dtype):
    x = images[rows].astype(jnp.float32) / 255
    mean, std = (jnp.asarray(m)[None, None, None] for m in MOMENTS)
    return _plain.step(state, (x - mean) / std, labels[rows], dtype=dtype)


def _start(view: View, steps: int) -> tuple[Any, TrainState]:
    """Return our step and the state it starts from, the same for every driver."""
    tx = RECIPE.optimizer(steps)
    prepare = functools.partial(normalise, mean=MOMENTS[0], std=MOMENTS[1])
    state = stack_seeds([init_state(view.params, view.state, tx, jax.random.key(1))])
    return make_step(view.apply, tx, prepare=prepare), state


def _streamed(view: View, args: Any, pixels: np.ndarray, labels: np.ndarray) -> _Streamed | None:
    """Return the streamed contender, or say in a sentence why there is none."""
    try:
        split = StreamedSplit(_Files(pixels, labels), np.arange(len(labels)), Decode())
        return _Streamed(view, Stream(split, batch_size=args.batch, workers=args.workers))
    except ImportError as error:
        print(f"The rows of streamed data are skipped. {error}")
        return None


class _Files:
    """Images as PNG files in memory."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray):
        from PIL import Image

        self._labels, self._files = labels, []
        for image in pixels:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            self._files.append(file.getvalue())

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int, /) -> Record:
        return Record(self._files[row], int(self._labels[row]))


def _pixels(rng: np.random.Generator, count: int, side: int) -> np.ndarray:
    """Draw images that are smooth and noisy, as photographs are: PNG takes as long to decode."""
    coarse = rng.integers(0, 200, (count, -(-side // 4), -(-side // 4), 3), dtype=np.uint8)
    smooth = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :side, :side]
    return smooth + rng.integers(0, 32, smooth.shape, dtype=np.uint8)


def _check(contenders: Mapping[str, Callable[[], Any]]) -> None:
    """Run the first epoch of all, which is the warm-up too; raise unless they see the same loss."""
    seen = {name: float(np.mean(np.asarray(epoch()))) for name, epoch in contenders.items()}
    for name, loss in seen.items():
        if not np.isclose(loss, seen["plain"], rtol=0.1):
            raise AssertionError(
                f"{name} does not train as the others do: mean losses of the first epoch {seen}."
            )


if __name__ == "__main__":
    main()
