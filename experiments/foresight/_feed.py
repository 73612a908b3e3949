"""Where images come from: all on the device, or from their files while the network trains."""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from experiments.data import (
    NAMES,
    STREAMED,
    RandomResizedCrop,
    Stream,
    StreamedDataset,
    StreamedSplit,
    load_streamed,
    normalise,
    place,
)
from experiments.training import (
    Metrics,
    Mode,
    Step,
    TrainState,
    epoch_runner,
    evaluator,
    stream_evaluator,
    stream_runner,
)

_TOGETHER = 500  # images that are evaluated at once


class Program(Protocol):
    """What compiles when it is first called, and says how long that took."""

    @property
    def compile_seconds(self) -> float: ...


class Runner(Program, Protocol):
    """A program of training, which counts how often it was compiled."""

    @property
    def programs(self) -> int: ...


Epoch = Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]
HeldOut = Callable[[TrainState, PyTree], dict[str, Metrics]]


class Feed(Protocol):
    """The images of a data set, wherever they are.

    Attributes:
      sizes: number of images of each split.
      origin: where they come from.
      classes: number of classes.
      image_shape: height, width, channels.
      crops: whether training images are cut at random before they get here.
    """

    sizes: dict[str, int]
    origin: str
    classes: int
    image_shape: tuple[int, ...]
    crops: bool

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """Labels of the training images; where they lie beside images in files, all of these are read."""
        ...

    def normalised(self, images: Array) -> Array:
        """Return what a model sees of stored images."""
        ...

    def examples(self, rows: Int[np.ndarray, " n"]) -> tuple[Array, Array]:
        """Return training images as they are stored, and their labels."""
        ...

    def training(self, step: Step, *, batch_size: int, mode: Mode) -> tuple[Epoch, Runner]:
        """Return a function that trains for one epoch, and its runner."""
        ...

    def evaluation(self, apply: Callable, prepare: Callable, mode: Mode) -> tuple[HeldOut, Program]:
        """Return a function that evaluates every split that is held out, and its evaluator."""
        ...


def feed(name: str, *, split_seed: int, limit: int | None, workers: int = 0) -> Feed:
    """Open a data set: on the device where it fits, from its files where it does not.

    Args:
      name: one of `NAMES`, or of `STREAMED`.
      split_seed: names the split.
      limit: at most this many images in each split.
      workers: processes that decode images from files.

    Raises:
      ValueError, FileNotFoundError, ImportError: as `load` and `load_streamed`.
    """
    if name in NAMES:
        return OnDevice(name, split_seed, limit)
    if name in STREAMED:
        return FromFiles(load_streamed(name, split_seed=split_seed, limit=limit), workers)
    known = ", ".join(dict.fromkeys((*NAMES, *STREAMED)))
    raise ValueError(f"unknown data set {name!r}; known are {known}.")


class OnDevice:
    """A set that lies on the device; see `Feed`."""

    crops = False

    def __init__(self, name: str, split_seed: int, limit: int | None):
        self._data = data = place(name, split_seed=split_seed, limit=limit)
        self.sizes, self.origin, self.classes = data.sizes, data.origin, data.classes
        self.image_shape, self.normalised = data.image_shape, data.normalised("float32")
        self.parts = {"train": data.train, **data.held_out}

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        return np.asarray(self._data.train[1])

    def examples(self, rows: Int[np.ndarray, " n"]) -> tuple[Array, Array]:
        images, labels = self._data.train
        own = jnp.asarray(rows)
        return images[own], labels[own]

    def training(self, step: Step, *, batch_size: int, mode: Mode) -> tuple[Epoch, Runner]:
        runner = epoch_runner(step, batch_size=batch_size, mode=mode)
        return lambda state, masks: runner(state, *self._data.train, masks), runner

    def evaluation(self, apply: Callable, prepare: Callable, mode: Mode) -> tuple[HeldOut, Program]:
        found = evaluator(apply, batch_size=_TOGETHER, prepare=prepare, mode=mode)

        def held_out(state: TrainState, masks: PyTree) -> dict[str, Metrics]:
            return {n: found(state, *part, masks) for n, part in self._data.held_out.items()}

        return held_out, found


class FromFiles:
    """A set whose images stay in their files; see `Feed`. Its transform augments, before images travel."""

    def __init__(self, data: StreamedDataset, workers: int):
        self._data, self._workers = data, workers
        self.sizes = {name: split.size for name, split in data.splits.items()}
        self.origin, self.classes, self.image_shape = data.origin, data.classes, data.image_shape
        self.crops = isinstance(data.train.transform, RandomResizedCrop)

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        split = self._data.train
        known = getattr(split.records, "labels", None)
        if known is None:
            return np.asarray([split.records[int(i)].label for i in split.indices])
        return known[split.indices]

    def normalised(self, images: Array) -> Array:
        return normalise(images, self._data.mean, self._data.std)

    def examples(self, rows: Int[np.ndarray, " n"]) -> tuple[Array, Array]:
        train, still = self._data.train, self._data.validation.transform
        chosen = StreamedSplit(train.records, train.indices[rows], still, train.source)
        [batch] = Stream(chosen, batch_size=len(rows)).once()
        return jnp.asarray(batch.images), jnp.asarray(batch.labels)

    def training(self, step: Step, *, batch_size: int, mode: Mode) -> tuple[Epoch, Runner]:
        runner = stream_runner(step)
        stream = Stream(self._data.train, batch_size=batch_size, workers=self._workers)
        return lambda state, masks: runner(state, stream, masks), runner

    def evaluation(self, apply: Callable, prepare: Callable, mode: Mode) -> tuple[HeldOut, Program]:
        found = stream_evaluator(apply, prepare=prepare)
        streams = {
            name: Stream(split, batch_size=min(_TOGETHER, split.size), workers=self._workers)
            for name, split in self._data.splits.items()
            if name != "train"
        }

        def held_out(state: TrainState, masks: PyTree) -> dict[str, Metrics]:
            return {name: found(state, stream, masks) for name, stream in streams.items()}

        return held_out, found


def enlarged(images: Array, side: int) -> Array:
    """Return images ``[N, side, side, C]``, enlarged bilinearly; what has that size stays."""
    if images.shape[1:3] == (side, side):
        return images
    return jax.image.resize(images, (images.shape[0], side, side, images.shape[3]), "bilinear")
