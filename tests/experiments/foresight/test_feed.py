"""Images from files train the same network, bit for bit, as images on the device."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.data import ArrayRecords, Decode, StreamedDataset, StreamedSplit, load
from experiments.foresight._config import PRESETS
from experiments.foresight._feed import FromFiles, OnDevice, enlarged, feed
from experiments.training import init_state, make_step, stack_seeds

LIMIT = 48


def from_files():
    data = load("digits", split_seed=0, limit=LIMIT)

    def streamed(name):
        split = data.splits[name]
        records = ArrayRecords(split.images, split.labels)
        return StreamedSplit(records, np.arange(split.size), Decode(1), name)

    parts = [streamed(name) for name in ("train", "validation", "test")]
    return FromFiles(
        StreamedDataset(
            *("digits", *parts, data.classes, data.mean, data.std), data.image_shape, data.origin
        ),
        workers=0,
    )


@pytest.mark.skipif(importlib.util.find_spec("grain") is None, reason="grain not installed")
def test_images_from_files_train_to_the_same_bits():
    def apply(params, stats, x, train=False):
        return x.reshape(x.shape[0], -1) @ params["kernel"], stats

    kernel = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
    masks, rows = {"kernel": np.ones((1, 64, 10), bool)}, np.asarray([5, 3, 40])
    found = []
    for images in (OnDevice("digits", 0, LIMIT), from_files()):
        assert (images.sizes["train"], images.crops) == (LIMIT, False)
        tx = optax.sgd(0.1)
        step = make_step(apply, tx, prepare=images.normalised)
        epoch, runner = images.training(step, batch_size=16, mode="loop")
        held_out, _ = images.evaluation(apply, images.normalised, "loop")
        state = init_state({"kernel": jnp.asarray(kernel)}, {}, tx, jax.random.key(0))
        state, metrics = epoch(stack_seeds([state]), masks)
        # the last batch is padded to another size, and its losses are summed in another order
        told = {n: (m.correct, m.count) for n, m in held_out(state, masks).items()}
        found.append((images.labels, images.examples(rows), state.params, metrics, told))
        assert runner.programs == 1
    jax.tree.map(np.testing.assert_array_equal, *found)


def test_streamed_presets_have_the_papers_recipes_and_one_resolution():
    small, large = PRESETS["resnet18"], PRESETS["resnet50"]
    assert (small.epochs, small.batch_size, small.learning_rate) == (200, 256, 0.2)
    assert (small.milestones, small.weight_decay, small.shortcut) == ((100, 150), 1e-4, "B")
    assert (large.epochs, large.batch_size, large.learning_rate) == (182, 256, 0.1)
    assert (large.milestones, large.weight_decay, large.shortcut) == ((91, 136), 1e-4, "B")
    # defect 12: trained at 224 pixels, tested at 64
    assert large.enlarge == 224
    for side in (4, 6):
        shape = jax.eval_shape(lambda x: enlarged(x, 6), jnp.ones((2, side, side, 3))).shape
        assert shape == (2, 6, 6, 3)


def test_an_unknown_set_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'mnist'; known are digits.*tiny_image"):
        feed("mnist", split_seed=0, limit=None)
