"""Tiny sets in the format of tensorflow-datasets, written by its own builder."""

import io

import pytest


def _prepare(root, class_name, features, sizes, example, version="1.0.0"):
    """Write a set with the library's own builder (already encoded images need no TensorFlow)."""
    import tensorflow_datasets as tfds

    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=features)

    def examples(split, n):
        yield from ((i, example(split, i)) for i in range(n))

    def split_generators(self, manager):
        return {split: examples(split, n) for split, n in sizes.items()}

    builder = type(
        class_name,
        (tfds.core.GeneratorBasedBuilder,),
        {
            "VERSION": tfds.core.Version(version),
            "pkg_dir_path": None,
            "_info": info,
            "_split_generators": split_generators,
            "_generate_examples": lambda self: None,
        },
    )
    builder(data_dir=str(root), file_format="array_record").download_and_prepare()


def _encode(image, kind="PNG"):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    file.seek(0)
    return file


@pytest.fixture(scope="session")
def prepare():
    """``prepare(root, class_name, features, sizes, example)`` writes a set."""
    return _prepare


@pytest.fixture(scope="session")
def encode():
    """``encode(image, kind)`` returns a file in memory."""
    return _encode
