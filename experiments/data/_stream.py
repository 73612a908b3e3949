"""Batches of a streamed split, decoded in threads or worker processes, from any position on.

The order is that of the in-memory path: `epoch_order` draws it, on the device. Grain reads ahead of it.
A batch is one element of Grain's random-access dataset, so the step *is* the position: to resume is to
begin the epoch's dataset at another index, and neither the number of workers nor how far they had read
ahead is part of it.
"""

import importlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Int32, Int64, Key, Shaped

from experiments.data._batches import epoch_order, evaluation_batches
from experiments.data._streamed import StreamedSplit
from experiments.data._transforms import Draws


class Position(NamedTuple):
    """Where a run stands: the next batch to train on. ``position._asdict()`` is JSON.

    Args:
      epoch: counted from 0.
      step: of the epoch, counted from 0.
    """

    epoch: int
    step: int


class Batch(NamedTuple):
    """This process's part of one training batch.

    Args:
      images: ``[n, H, W, C]``.
      labels: int32 ``[n]``.
      after: where a run stands once it has trained on this batch.
    """

    images: Shaped[Array | np.ndarray, "n h w c"]
    labels: Int32[Array | np.ndarray, " n"]
    after: Position


class PaddedBatch(NamedTuple):
    """This process's part of one batch to evaluate.

    Args:
      images: ``[n, H, W, C]``.
      labels: int32 ``[n]``.
      valid: bool ``[n]``; False for padding.
    """

    images: Shaped[Array | np.ndarray, "n h w c"]
    labels: Int32[Array | np.ndarray, " n"]
    valid: Bool[Array | np.ndarray, " n"]


class Stream:
    """Batches of one split, read while the device is busy.

    With several processes each reads its own stretch of every batch: of the B images of a batch, process
    p of P those from :math:`pB/P` to :math:`(p+1)B/P`.

    Args:
      split: what to read.
      batch_size: images in a batch, of all processes together.
      workers: processes that decode; 0 decodes in this one. They are started anew for each epoch, which
        takes seconds: worth it for photographs and not for small images. A script that uses them needs
        its ``if __name__ == "__main__":``.
      threads: that decode, in each of those processes; 0 decodes when a batch is asked for. Pillow lets
        threads run side by side. Each holds one batch.
      process_index: this process, `jax.process_index` when None.
      process_count: of all processes, `jax.process_count` when None.

    Raises:
      ImportError: Grain is not installed.
      ValueError: the batch does not fit the split or the processes, or a number is negative.

    Example:
      >>> from experiments.data import ArrayRecords, Decode, StreamedSplit  # doctest: +SKIP
      >>> records = ArrayRecords(np.zeros((5, 8, 8, 1), np.uint8), np.arange(5, dtype=np.int32))
      ... # doctest: +SKIP
      >>> split = StreamedSplit(records, np.arange(5), Decode(1))  # doctest: +SKIP
      >>> stream = Stream(split, batch_size=2)  # doctest: +SKIP
      >>> [batch.after for batch in stream.epoch(jax.random.key(0), 3)]  # doctest: +SKIP
      [Position(epoch=3, step=1), Position(epoch=4, step=0)]

    References:
      `Grain <https://google-grain.readthedocs.io>`_, 2023
    """

    def __init__(
        self,
        split: StreamedSplit,
        *,
        batch_size: int,
        workers: int = 0,
        threads: int = 4,
        process_index: int | None = None,
        process_count: int | None = None,
    ):
        check_grain()
        index = jax.process_index() if process_index is None else process_index
        count = jax.process_count() if process_count is None else process_count
        if min(workers, threads) < 0:
            raise ValueError(
                f"workers={workers} and threads={threads}; both count, and 0 decodes here."
            )
        if not 0 <= index < count:
            raise ValueError(f"process {index} of {count}: processes are counted from 0.")
        if not 1 <= batch_size <= split.size:
            raise ValueError(
                f"batch_size={batch_size} does not fit a split of {split.size} images; choose one from "
                f"1 to {split.size}."
            )
        if batch_size % count:
            raise ValueError(
                f"batch_size={batch_size} cannot be dealt out to {count} processes in equal parts; "
                f"choose a multiple of {count}."
            )
        self.split = split
        self.batch_size = batch_size
        self._local = batch_size // count
        self._columns = slice(index * self._local, (index + 1) * self._local)
        self._workers, self._threads = workers, threads

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.split.size // self.batch_size

    def epoch(self, key: Key[Array, ""], epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """Read one epoch in the order of the in-memory path.

        Args:
          key: of the run's data order: of `epoch_order`, and of the transforms' draws.
          epoch: counted from 0.
          start: step to begin with.

        Returns:
          Iterator of ``steps_per_epoch - start`` NumPy batches.

        Raises:
          ValueError: there is no such step.
        """
        steps = self.steps_per_epoch
        if not 0 <= start <= steps:
            raise ValueError(
                f"step {start} is no position in an epoch of {steps} steps: the checkpoint was made "
                "with another batch size or split, or the epoch is over."
            )
        order = _order(key, epoch, size=self.split.size, batch=self.batch_size)
        mine = np.asarray(order)[start:, self._columns]
        words = np.asarray(jax.random.key_data(key)).ravel().tolist()
        for step, (images, labels) in enumerate(self._read(mine, words, epoch), start + 1):
            after = Position(epoch, step) if step < steps else Position(epoch + 1, 0)
            yield Batch(images, labels, after)

    def once(self) -> Iterator[PaddedBatch]:
        """Read every image exactly once, for evaluation, the last batch padded; see `evaluation_batches`.

        Returns:
          Iterator of ``ceil(size / batch_size)`` NumPy batches.
        """
        rows, valid = evaluation_batches(self.split.size, self.batch_size)
        batches = self._read(rows[:, self._columns], [0], 0)
        for (images, labels), counts in zip(batches, valid[:, self._columns], strict=True):
            yield PaddedBatch(images, labels, counts)

    def _read(
        self, positions: Int32[np.ndarray, "steps n"], key: list[int], epoch: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Decode the images at these positions of the split, a batch a row."""
        import grain

        if not positions.size:
            return
        source = _Examples(self.split, self.split.indices[positions.ravel()], key, epoch)
        # batches are made before the dataset is dealt out to workers: dealt first, each worker would
        # make batches of every n-th image
        dataset = grain.MapDataset.source(source).batch(self._local)
        options = grain.ReadOptions(self._threads, prefetch_buffer_size=self._threads)
        batches: Any = dataset.to_iter_dataset(options)
        if self._workers:
            _settle_flags()
            batches = batches.mp_prefetch(
                grain.MultiprocessingOptions(self._workers, per_worker_buffer_size=2)
            )
        iterator = iter(batches)
        try:
            for images, labels in iterator:
                # out of the memory shared with a worker, which is unmapped while a transfer may still read
                yield (np.array(images), np.array(labels)) if self._workers else (images, labels)
        finally:
            iterator.close()  # stops threads and workers now, not when they are collected


class _Examples:
    """What Grain reads: the decoded examples of one epoch, in order."""

    def __init__(
        self, split: StreamedSplit, rows: Int64[np.ndarray, " n"], key: list[int], epoch: int
    ):
        self._records, self._transform = split.records, split.transform
        self._rows, self._key, self._epoch = rows, key, epoch

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.int32]:
        row = int(self._rows[i])
        image, label = self._records[row]
        return self._transform(image, Draws(self._key, self._epoch, row)), np.int32(label)


def check_grain() -> None:
    """Raise where Grain is missing."""
    try:
        importlib.import_module("grain")
    except ImportError as error:
        raise ImportError(
            "Streaming data needs Grain, which cannot be imported: pip install "
            "'wormjax[experiments]' (or grain). Sets that fit into memory need it not: "
            "experiments.data.load."
        ) from error


def _settle_flags() -> None:
    """Let Grain read its command-line flags, which have their defaults where nobody parses any.

    Grain 0.2.18 refuses to start workers otherwise (google/grain issue 1355, mended since).
    """
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


_order = jax.jit(epoch_order, static_argnames=("size", "batch"))
