"""Streamed sets by name: ImageNet's and Tiny-ImageNet's layouts, with small images made here."""

import dataclasses
import importlib.util
import sys

import jax
import numpy as np
import pytest

from experiments.data import (
    STREAMED,
    CentreCrop,
    Decode,
    Draws,
    RandomResizedCrop,
    Stream,
    load_streamed,
)
from experiments.data._load_streamed import _SETS

MISSING = [
    m for m in ("grain", "tensorflow_datasets", "PIL") if importlib.util.find_spec(m) is None
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{MISSING} not installed")


def photograph(split, i):
    """Image i of a split, of a size of its own; smooth, because JPEG loses the rest."""
    rng = np.random.default_rng((split == "train", i))
    height, width = rng.integers(230, 330, 2)
    y, x = np.mgrid[:height, :width]
    colour = rng.integers(0, 100, 3)
    return (np.stack([x // 3, y // 3, (x + y) // 6], -1) + colour).astype(np.uint8)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory, prepare, encode):
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    root = tmp_path_factory.mktemp("imagenet")
    image = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
    label = tfds.features.ClassLabel(num_classes=1000)
    features = tfds.features.FeaturesDict({"image": image, "label": label})
    prepare(
        root,
        "Imagenet2012",
        features,
        {"train": 12, "validation": 5},
        lambda s, i: {"image": encode(photograph(s, i), "JPEG"), "label": 900 + i},
        version="5.1.0",
    )
    return root


def test_imagenet_is_split_read_and_cut_as_promised(imagenet):
    import tensorflow_datasets as tfds

    data = load_streamed("imagenet", split_seed=0, validation=4, data_dir=imagenet)
    assert [s.size for s in data.splits.values()] == [8, 4, 5]
    assert data.image_shape == (224, 224, 3)
    assert (data.classes, data.origin) == (1000, "tensorflow-datasets imagenet2012/5.1.0")
    rows = np.concatenate([data.train.indices, data.validation.indices])
    assert sorted(rows.tolist()) == list(range(12))
    assert data.test.source == "validation"

    (batch,) = Stream(data.train, batch_size=8).epoch(jax.random.key(0), 0)
    assert (batch.images.shape, batch.images.dtype) == ((8, 224, 224, 3), np.uint8)
    (again,) = Stream(data.train, batch_size=8).epoch(jax.random.key(0), 0)
    (other,) = Stream(data.train, batch_size=8).epoch(jax.random.key(0), 1)
    np.testing.assert_array_equal(batch.images, again.images)
    assert sorted(other.labels.tolist()) == sorted(batch.labels.tolist())
    assert set(batch.labels.tolist()) <= set(range(900, 912))
    at = dict(zip(batch.labels.tolist(), batch.images, strict=True))
    assert not any(
        (at[k] == x).all() for k, x in zip(other.labels.tolist(), other.images, strict=True)
    )

    source = tfds.data_source("imagenet2012", split="validation", data_dir=str(imagenet))
    (held,) = Stream(data.test, batch_size=5).once()
    for image, label, example in zip(held.images, held.labels, source, strict=True):
        assert label == example["label"]
        expected = CentreCrop(224, shorter=256)(example["image"], Draws((0,), 0, 0))
        np.testing.assert_array_equal(image, expected)


@pytest.fixture(scope="module")
def tiny_root(tmp_path_factory, encode):
    root = tmp_path_factory.mktemp("tiny")
    folder = root / "tiny-imagenet-200"
    wnids = ("n02", "n01", "n03")
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(wnids) + "\n")
    lines = []
    for c, wnid in enumerate(wnids):
        (folder / "train" / wnid / "images").mkdir(parents=True)
        for i in range(4):
            pixels = np.full((64, 64, 3), 40 * c + i, np.uint8)
            file = folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG"
            file.write_bytes(encode(pixels, "JPEG").read())
        name = f"val_{5 - c}.JPEG"
        grey = np.full((64, 64), 200 + c, np.uint8)  # some of the published ones are grey
        (folder / "val" / "images" / name).write_bytes(encode(grey, "JPEG").read())
        lines.append(f"{name}\t{wnid}\t0\t0\t10\t10\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    return root


def test_tiny_imagenet_is_read_from_its_published_folder(tiny_root):
    data = load_streamed("tiny_imagenet", split_seed=0, validation=3, data_dir=tiny_root)
    assert [s.size for s in data.splits.values()] == [9, 3, 3]
    assert (data.classes, data.image_shape) == (3, (64, 64, 3))
    (batch,) = Stream(data.validation, batch_size=3).once()
    assert sorted(batch.labels.tolist()) == [0, 1, 2]  # dealt by class
    for image, label in zip(batch.images, batch.labels, strict=True):
        assert 40 * label - 1 <= image.mean() <= 40 * label + 4
    (held,) = Stream(data.test, batch_size=3).once()
    assert held.labels.tolist() == [2, 1, 0]  # in the order of the names
    np.testing.assert_allclose(held.images.mean(axis=(1, 2, 3)), [202, 201, 200], atol=1)
    (seen,) = Stream(data.train, batch_size=9).epoch(jax.random.key(0), 0)
    assert seen.images.shape == (9, 64, 64, 3)
    # foresight's defect 12: trained at 224 pixels and tested at 64
    assert seen.images.shape[1:] == batch.images.shape[1:] == held.images.shape[1:]


def test_the_recipe_of_imagenet_is_the_supervised_one():
    """Foresight's defect 14: its recipe of supervised training is MoCo's first, greys and colours included."""
    recipe = _SETS["imagenet"]
    assert recipe.train == RandomResizedCrop(224, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), flip=0.5)
    assert {f.name for f in dataclasses.fields(recipe.train)} == {"size", "scale", "ratio", "flip"}
    assert recipe.still == CentreCrop(recipe.train.size, shorter=256)  # defect 12: one resolution
    assert "Training images by `RandomResizedCrop` to 224" in " ".join(
        load_streamed.__doc__.split()
    )


def test_a_broken_folder_is_a_sentence(tiny_root, tmp_path):
    def load():
        load_streamed("tiny_imagenet", split_seed=0, data_dir=tmp_path)

    with pytest.raises(
        FileNotFoundError, match=r"not complete in .*wnids\.txt is missing.*tiny-imagenet-200\.zip"
    ):
        load()
    folder = tmp_path / "tiny-imagenet-200"
    (folder / "val").mkdir(parents=True)
    (folder / "train").mkdir()
    (folder / "wnids.txt").write_text("n01\n")
    (folder / "val" / "val_annotations.txt").write_text("")
    with pytest.raises(FileNotFoundError, match="holds 0 training and 0 validation images"):
        load()
    (folder / "val" / "val_annotations.txt").write_text("a.JPEG\tn09\t0\t0\t1\t1\n")
    with pytest.raises(ValueError, match=r"gives a\.JPEG the class 'n09'"):
        load()


def test_imagenet_that_is_not_there_is_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"'imagenet2012' .*tfds build imagenet2012"):
        load_streamed("imagenet", split_seed=0, data_dir=tmp_path)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    for name in STREAMED:
        with pytest.raises(FileNotFoundError, match="Set the variable TFDS_DATA_DIR"):
            load_streamed(name, split_seed=0)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'imagenette'; known are cifar10, .*imagenet"):
        load_streamed("imagenette", split_seed=0)


def test_without_grain_it_says_so_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ImportError, match="needs Grain"):
        load_streamed("cifar10", split_seed=0)


def test_pixels_that_need_no_decoding_stay():
    pixels = np.zeros((2, 2, 3), np.uint8)
    assert Decode()(pixels, Draws((0, 0), 0, 0)) is pixels
