"""Sets prepared by tensorflow-datasets: a tiny one written here, and the real ones where they are."""

import importlib.util
import json
import logging
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.data import check_disjoint, content_overlaps, load, tfds_images
from experiments.data._tfds import _without_opencv_advice

MISSING = [m for m in ("tensorflow_datasets", "PIL") if importlib.util.find_spec(m) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{MISSING} not installed")

TRAIN, TEST = 40, 20
SIZES = {"train": TRAIN, "test": TEST}


def pixels(split, i):
    """Image i of a split of the tiny set; test image 3 is training image 5."""
    seed = (0, 5) if (split, i) == ("test", 3) else (split == "test", i)
    return np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory, prepare, encode):
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    root = tmp_path_factory.mktemp("prepared")
    image, label = tfds.features.Image(shape=(4, 5, 3)), tfds.features.ClassLabel(num_classes=4)
    prepare(
        root,
        "TinyImages",
        tfds.features.FeaturesDict({"image": image, "label": label, "number": np.int64}),
        SIZES,
        lambda s, i: {"image": encode(pixels(s, i)), "label": i % 4, "number": i},
    )
    prepare(
        root,
        "TinyUnlabelled",
        tfds.features.FeaturesDict({"image": image, "label": label}),
        SIZES,
        lambda s, i: {"image": encode(pixels(s, i)), "label": i % 4 if s == "train" else -1},
    )
    prepare(
        root,
        "TinyText",
        tfds.features.FeaturesDict({"text": tfds.features.Text(), "label": label}),
        SIZES,
        lambda s, i: {"text": f"{s} {i}", "label": i % 4},
    )
    return root


@pytest.fixture(scope="module")
def tiny(root):
    return tfds_images("tiny_images", split_seed=0, validation=8, data_dir=root)


def test_images_labels_and_rows_agree_with_the_source(tiny, root):
    import tensorflow_datasets as tfds

    for split in tiny.splits.values():
        source = tfds.data_source("tiny_images", split=split.source, data_dir=str(root))
        for image, label, row in zip(split.images, split.labels, split.indices, strict=True):
            number = source[int(row)]["number"]
            np.testing.assert_array_equal(image, pixels(split.source, int(number)))
            assert label == number % 4
    assert tiny.train.images.dtype == np.uint8
    assert tiny.train.labels.dtype == np.int32
    assert tiny.classes == 4
    assert tiny.origin == "tensorflow-datasets tiny_images/1.0.0"


def test_eb_d4_validation_is_carved_from_train_and_test_stays_whole(tiny):
    assert (tiny.train.source, tiny.validation.source, tiny.test.source) == (
        "train",
        "train",
        "test",
    )
    rows = np.concatenate([tiny.train.indices, tiny.validation.indices])
    assert sorted(rows.tolist()) == list(range(TRAIN))
    assert tiny.test.indices.tolist() == list(range(TEST))
    assert np.bincount(tiny.validation.labels).tolist() == [2, 2, 2, 2]


def test_moments_of_other_sets_are_those_of_the_training_split(tiny):
    unit = tiny.train.images / 255
    np.testing.assert_allclose(tiny.mean, unit.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(tiny.std, unit.std(axis=(0, 1, 2)), rtol=1e-12)


def test_an_image_in_train_and_test_is_reported_not_dropped(tiny):
    (overlap,) = content_overlaps(tiny)
    assert overlap.second == "test"
    ((i, j),) = overlap.positions
    np.testing.assert_array_equal(tiny.splits[overlap.first].images[i], pixels("train", 5))
    np.testing.assert_array_equal(tiny.test.images[j], pixels("test", 3))
    with pytest.raises(ValueError, match="share 1 images"):
        check_disjoint(tiny, content=True)


def test_limit_keeps_the_same_split(tiny, root):
    few = tfds_images("tiny_images", split_seed=0, validation=8, limit=4, data_dir=root)
    for part, whole in zip(few.splits.values(), tiny.splits.values(), strict=True):
        assert np.bincount(part.labels).tolist() == [1, 1, 1, 1]
        at = np.searchsorted(whole.indices, part.indices)
        np.testing.assert_array_equal(whole.images[at], part.images)


def test_the_variable_names_the_folder(tiny, root, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    again = tfds_images("tiny_images:1.0.0", split_seed=0, validation=8)
    np.testing.assert_array_equal(again.train.images, tiny.train.images)


def test_only_the_advice_about_decoders_is_kept_quiet_and_only_while_decoding():
    logger, heard = logging.getLogger("absl"), []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger.addHandler(handler)
    try:
        with _without_opencv_advice():
            logger.warning("OpenCV is not installed. We recommend ...")
            logger.warning("something else")
        logger.warning("OpenCV is not installed, afterwards")
    finally:
        logger.removeHandler(handler)
    assert heard == ["something else", "OpenCV is not installed, afterwards"]


def test_no_folder_says_which_variable_to_set(monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    with pytest.raises(FileNotFoundError, match="Set the variable TFDS_DATA_DIR to the folder"):
        tfds_images("cifar10", split_seed=0)


def test_a_set_that_is_not_there_says_what_is_and_how_to_get_it(root):
    with pytest.raises(
        FileNotFoundError,
        match=r"No prepared data set 'mnist' .*tiny_images.*tfds build mnist --file_format=array_rec",
    ):
        tfds_images("mnist", split_seed=0, data_dir=root)


def test_a_folder_that_does_not_exist_has_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found: none"):
        tfds_images("mnist", split_seed=0, data_dir=tmp_path / "nowhere")


@pytest.mark.parametrize("module", ["tensorflow_datasets", "array_record", "PIL"])
def test_a_missing_package_says_what_to_install(module, monkeypatch, root):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImportError, match=rf"but {module} cannot be imported: pip install 'wormjax"
    ):
        tfds_images("tiny_images", split_seed=0, data_dir=root)


def test_a_set_without_images_is_refused(root):
    with pytest.raises(ValueError, match=r"'tiny_text' is not a set of uint8 images .*text"):
        tfds_images("tiny_text", split_seed=0, data_dir=root)


def test_a_set_without_test_labels_is_refused(root):
    with pytest.raises(
        ValueError, match="'tiny_unlabelled' publishes no labels for its split 'test'"
    ):
        tfds_images("tiny_unlabelled", split_seed=0, validation=8, data_dir=root)


def test_a_file_format_of_tensorflow_is_refused(root, tmp_path):
    shutil.copytree(root / "tiny_images", tmp_path / "tiny_images")
    info = tmp_path / "tiny_images" / "1.0.0" / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(ValueError, match="a file format that only TensorFlow reads"):
        tfds_images("tiny_images", split_seed=0, validation=8, data_dir=tmp_path)


def test_a_validation_split_larger_than_train_is_refused(root):
    with pytest.raises(ValueError, match="cannot deal 40 rows out to splits of -4960, 5000"):
        tfds_images("tiny_images", split_seed=0, data_dir=root)


REAL = {
    "cifar10": ((32, 32, 3), 50_000, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "fashion_mnist": ((28, 28, 1), 60_000, (0.2860,), (0.3530,)),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_where_they_are_at_hand(name):
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"TFDS_DATA_DIR names no folder with {name}")
    import tensorflow_datasets as tfds

    shape, rows, mean, std = REAL[name]
    data = load(name, split_seed=0, limit=200)
    assert (data.mean, data.std, data.classes, data.image_shape) == (mean, std, 10, shape)
    check_disjoint(data, content=True)
    for split in data.splits.values():
        assert split.images.shape == (200, *shape)
        assert np.bincount(split.labels).tolist() == [20] * 10
        source = tfds.data_source(name, split=split.source)
        assert split.indices.max() < len(source) == (rows if split.source == "train" else 10_000)
        for k in (0, 199):
            example = source[int(split.indices[k])]
            np.testing.assert_array_equal(split.images[k], example["image"])
            assert split.labels[k] == example["label"]
    # 600 images say the published mean to within a few standard errors.
    pixels = np.concatenate([split.images for split in data.splits.values()]) / 255
    np.testing.assert_allclose(pixels.mean(axis=(0, 1, 2)), mean, atol=0.03)
