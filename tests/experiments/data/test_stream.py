"""Streams: the in-memory path's batches, for every process, from every position, by any worker."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.data import (
    ArrayRecords,
    Decode,
    Draws,
    Position,
    RandomResizedCrop,
    Stream,
    StreamedDataset,
    StreamedSplit,
    epoch_order,
    load,
    load_streamed,
    prefetch,
)

needs_grain = pytest.mark.skipif(
    importlib.util.find_spec("grain") is None, reason="Grain is not installed"
)
ROWS, BATCH, EPOCH, STEPS = 23, 6, 3, 3
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 9, 7, 3), dtype=np.uint8)
LABELS = RNG.integers(0, 10, 40).astype(np.int32)
INDICES = np.sort(RNG.permutation(40)[:ROWS])


def split(transform=None):
    return StreamedSplit(ArrayRecords(IMAGES, LABELS), INDICES, transform or Decode())


def expected(key=0):
    """Rows of the collection, a batch a row, by the in-memory path's own order."""
    order = epoch_order(jax.random.key(key), EPOCH, size=ROWS, batch=BATCH)
    return INDICES[np.asarray(order)]


@needs_grain
@pytest.mark.parametrize("threads", [0, 3])
def test_batches_are_those_in_memory(threads):
    stream = Stream(split(), batch_size=BATCH, threads=threads)
    assert stream.steps_per_epoch == STEPS
    batches = list(stream.epoch(jax.random.key(0), EPOCH))
    for rows, batch in zip(expected(), batches, strict=True):
        np.testing.assert_array_equal(batch.images, IMAGES[rows])
        np.testing.assert_array_equal(batch.labels, LABELS[rows])
        assert (batch.images.dtype, batch.labels.dtype) == (np.uint8, np.int32)
    assert [tuple(batch.after) for batch in batches] == [(3, 1), (3, 2), (4, 0)]


@needs_grain
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_processes_read_the_batch_between_them(count):
    """Joined in the order of the processes, their parts are the batch; nothing is read twice."""
    key = jax.random.key(0)
    parts = [
        list(
            Stream(
                split(), batch_size=BATCH, threads=0, process_index=i, process_count=count
            ).epoch(key, EPOCH)
        )
        for i in range(count)
    ]
    for rows, step in zip(expected(), zip(*parts, strict=True), strict=True):
        assert {len(part.labels) for part in step} == {BATCH // count}
        np.testing.assert_array_equal(np.concatenate([part.images for part in step]), IMAGES[rows])
        assert len({part.after for part in step}) == 1


@needs_grain
@pytest.mark.parametrize("start", range(STEPS + 1))
def test_every_position_resumes_exactly(start):
    stream = Stream(split(RandomResizedCrop(4)), batch_size=BATCH, threads=2)
    key = jax.random.key(0)
    whole = list(stream.epoch(key, EPOCH))
    saved = json.loads(json.dumps(Position(EPOCH, start)._asdict()))
    rest = list(stream.epoch(key, saved["epoch"], start=saved["step"]))
    assert len(rest) == STEPS - start
    for a, b in zip(whole[start:], rest, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.labels, b.labels)
        assert a.after == b.after


@needs_grain
def test_draws_depend_on_key_epoch_and_row_only():
    """An example's crop is its own, whatever batch, step or process it comes to."""
    crop = RandomResizedCrop(5)
    key = jax.random.key(7)
    stream = Stream(split(crop), batch_size=BATCH, process_index=1, process_count=2)
    for rows, batch in zip(expected(7), stream.epoch(key, EPOCH), strict=True):
        for row, image in zip(rows[BATCH // 2 :], batch.images, strict=True):
            draws = Draws(jax.random.key_data(key).tolist(), EPOCH, int(row))
            np.testing.assert_array_equal(image, crop(IMAGES[row], draws))


@needs_grain
def test_worker_processes_change_nothing_and_touch_no_device(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "none_such")  # in the workers: ours has its device already
    stream = Stream(split(), batch_size=BATCH, workers=2, threads=1)
    batches = list(stream.epoch(jax.random.key(0), EPOCH, start=1))
    for rows, batch in zip(expected()[1:], batches, strict=True):
        np.testing.assert_array_equal(batch.images, IMAGES[rows])
        assert type(batch.images) is np.ndarray  # and no view of memory that a worker shares


@needs_grain
def test_evaluation_reads_every_image_once():
    batches = list(Stream(split(), batch_size=BATCH).once())
    assert [int(batch.valid.sum()) for batch in batches] == [6, 6, 6, 5]
    images = np.concatenate([batch.images[batch.valid] for batch in batches])
    np.testing.assert_array_equal(images, IMAGES[INDICES])
    second = Stream(split(), batch_size=BATCH, process_index=1, process_count=2)
    assert [int(batch.valid.sum()) for batch in second.once()] == [3, 3, 3, 2]


@needs_grain
def test_prefetch_keeps_order_positions_and_depth():
    taken = []

    def source():
        for batch in Stream(split(), batch_size=BATCH, threads=0).epoch(jax.random.key(0), EPOCH):
            taken.append(batch.after)
            yield batch

    for step, (rows, batch) in enumerate(zip(expected(), prefetch(source(), depth=2), strict=True)):
        assert len(taken) == min(step + 2, STEPS)  # one in use, one on its way
        assert isinstance(batch.images, jax.Array)
        np.testing.assert_array_equal(batch.images, IMAGES[rows])
        assert isinstance(batch.after, Position)


@needs_grain
def test_prefetch_deals_a_batch_out_to_devices():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.P("data"))
    batch = next(Stream(split(), batch_size=BATCH).epoch(jax.random.key(0), EPOCH))
    (moved,) = prefetch([batch], sharding=sharding)
    assert moved.images.sharding == sharding
    assert moved.labels.sharding == sharding
    np.testing.assert_array_equal(moved.images, batch.images)
    with pytest.raises(ValueError, match="depth=0"):
        next(prefetch([], depth=0))


@needs_grain
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 does not fit a split of 23 images"),
        ({"batch_size": 24}, "batch_size=24 does not fit a split of 23 images"),
        ({"batch_size": 6, "process_index": 0, "process_count": 4}, "a multiple of 4"),
        ({"batch_size": 6, "process_index": 2, "process_count": 2}, "process 2 of 2"),
        ({"batch_size": 6, "workers": -1}, "workers=-1"),
    ],
)
def test_a_stream_that_does_not_fit_is_a_sentence(settings, message):
    with pytest.raises(ValueError, match=message):
        Stream(split(), **settings)


@needs_grain
def test_a_position_of_another_run_is_a_sentence():
    stream = Stream(split(), batch_size=BATCH)
    with pytest.raises(ValueError, match="step 4 is no position in an epoch of 3 steps"):
        next(stream.epoch(jax.random.key(0), 0, start=4))


def test_without_grain_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ImportError, match=r"needs Grain.*pip install 'wormjax\[experiments\]'"):
        Stream(split(), batch_size=BATCH)


def test_splits_that_share_a_row_are_refused():
    part = split()
    other = StreamedSplit(part.records, np.setdiff1d(np.arange(40), INDICES), Decode())
    test = StreamedSplit(part.records, np.arange(40), Decode(), "test")
    about = (10, (0.5,) * 3, (0.25,) * 3, (9, 7, 3))
    data = StreamedDataset("toy", part, other, test, *about)
    assert [s.size for s in data.splits.values()] == [23, 17, 40]
    with pytest.raises(ValueError, match=r"'train' and 'validation' of 'toy' share 23 rows"):
        StreamedDataset("toy", part, part, test, *about)


@needs_grain
@pytest.mark.parametrize("name", ["cifar10", pytest.param("fashion_mnist", marks=pytest.mark.slow)])
def test_real_sets_stream_as_they_are_in_memory(name):
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"TFDS_DATA_DIR names no folder with {name}")
    held, read = (f(name, split_seed=0, limit=300) for f in (load, load_streamed))
    assert (held.mean, held.std, held.classes, held.image_shape, held.origin) == (
        read.mean,
        read.std,
        read.classes,
        read.image_shape,
        read.origin,
    )
    for part, streamed in zip(held.splits.values(), read.splits.values(), strict=True):
        np.testing.assert_array_equal(part.indices, streamed.indices)
        key = jax.random.key(5)
        order = np.asarray(epoch_order(key, 1, size=part.size, batch=128))
        stream = Stream(streamed, batch_size=128)
        for rows, batch in zip(order, stream.epoch(key, 1), strict=True):
            np.testing.assert_array_equal(batch.images, part.images[rows])
            np.testing.assert_array_equal(batch.labels, part.labels[rows])
