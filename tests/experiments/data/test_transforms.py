"""Photographs to pixels of one size: draws against the published generator, crops against NumPy."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.data import CentreCrop, Decode, Draws, RandomResizedCrop

pytest.importorskip("PIL", reason="Pillow is not installed")
MASK = 2**64 - 1
# a busy machine is no failure
QUIET = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


def philox(counter, key):
    """Philox-4x64-10 in Python's integers (Salmon et al., Parallel Random Numbers, 2011)."""
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = [
            (b >> 64) ^ counter[1] ^ key[0],
            b & MASK,
            (a >> 64) ^ counter[3] ^ key[1],
            a & MASK,
        ]
        key = [(key[0] + 0x9E3779B97F4A7C15) & MASK, (key[1] + 0xBB67AE8584CAA73B) & MASK]
    return counter


@QUIET
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 99), st.integers(0, 99))
def test_draws_are_philox_of_key_epoch_and_row(low, high, epoch, row):
    blocks = [philox([i, row, epoch, 0], [low + (high << 32), 0]) for i in (1, 2)]
    expected = [(word >> 11) / 2**53 for block in blocks for word in block]
    draws = Draws([low, high], epoch, row)
    assert [*draws.uniform(3), *draws.uniform(5)] == expected


SIDE = st.integers(1, 400)


@QUIET
@given(SIDE, SIDE, st.lists(st.floats(0, 1, exclude_max=True), min_size=22, max_size=22))
def test_boxes_lie_inside_and_keep_scale_and_ratio(width, height, numbers):
    crop = RandomResizedCrop(8, scale=(0.2, 0.9), ratio=(0.5, 2.0))
    left, top, right, bottom = crop.box(width, height, np.array(numbers))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    w, h = right - left, bottom - top
    # rounding moves a side by half a pixel
    assert (w - 0.5) / (h + 0.5) <= 2.0 + 1e-9
    assert (w + 0.5) / (h - 0.5) >= 0.5 - 1e-9
    if (
        0.5 <= width / height <= 2.0
    ):  # otherwise the largest allowed rectangle may be smaller or larger
        assert (w + 0.5) * (h + 0.5) >= 0.2 * width * height - 1e-9


def test_the_first_draw_that_fits_is_taken():
    crop = RandomResizedCrop(8, scale=(0.25, 1.0), ratio=(1.0, 4.0))
    numbers = np.zeros(22)
    numbers[:3] = 1 - 1e-12  # the whole area ...
    numbers[10:12] = 1 - 1e-12  # ... four times as wide as high does not fit into a square
    numbers[20:] = 0.999
    assert crop.box(100, 100, numbers) == (0, 0, 100, 100)  # the third: the whole area, ratio 1
    numbers[2] = 0
    assert crop.box(100, 100, numbers) == (50, 50, 100, 100)  # a quarter of it, at the far corner


@pytest.mark.parametrize(
    ("size", "box"),
    [((100, 10), (43, 0, 57, 10)), ((9, 90), (0, 39, 9, 51)), ((1, 1), (0, 0, 1, 1))],
)
def test_where_nothing_fits_the_largest_centred_box_is_taken(size, box):
    crop = RandomResizedCrop(8, scale=(1.0, 1.0), ratio=(3 / 4, 4 / 3))
    numbers = np.full(22, 0.5)
    left, top, right, bottom = crop.box(*size, numbers)
    w, h = size
    ratio = min(max(w / h, 3 / 4), 4 / 3)
    assert (right - left, bottom - top) == (min(w, round(h * ratio)), min(h, round(w / ratio)))
    assert abs((left + right) - w) <= 1
    assert abs((top + bottom) - h) <= 1


def test_the_box_is_what_is_cut_out():
    """On a ramp the mean of a crop is the ramp's mean over its box."""
    x = np.linspace(0, 250, 120)
    image = np.stack(
        [np.tile(x, (80, 1)), np.tile(x[:80, None], (1, 120)), np.zeros((80, 120))], -1
    )
    image = np.rint(image).astype(np.uint8)
    crop = RandomResizedCrop(16, flip=0.0)
    for row in range(5):
        key = (0, 3)
        left, top, right, bottom = crop.box(120, 80, Draws(key, 1, row).uniform(22))
        pixels = crop(image, Draws(key, 1, row))
        assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)
        expected = image[top:bottom, left:right].mean(axis=(0, 1))
        np.testing.assert_allclose(pixels.mean(axis=(0, 1)), expected, atol=1.0)


def test_mirroring_and_the_whole_image():
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    whole = {"size": 12, "scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    draws = [Draws((0, 0), 0, row) for row in range(4)]
    same, mirrored = (RandomResizedCrop(**whole, flip=p) for p in (0.0, 1.0))
    np.testing.assert_array_equal(same(image, draws[0]), image)
    np.testing.assert_array_equal(mirrored(image, draws[1]), image[:, ::-1])
    half = RandomResizedCrop(**whole)
    seen = [(half(image, Draws((0, 0), 0, row)) == image).all() for row in range(400)]
    assert abs(np.mean(seen) - 0.5) < 4 * 0.5 / 20


@pytest.mark.parametrize("shape", [(10, 14, 3), (15, 10, 3), (10, 10, 3)])
def test_centre_crop_of_an_image_that_has_the_size(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    top, left = round((shape[0] - 6) / 2), round((shape[1] - 6) / 2)
    cut = CentreCrop(6, shorter=10)(image, Draws((0, 0), 0, 0))
    np.testing.assert_array_equal(cut, image[top : top + 6, left : left + 6])


def test_centre_crop_scales_the_shorter_side():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 40:] = 200
    cut = CentreCrop(8, shorter=10)(image, Draws((0, 0), 0, 0))
    assert cut.shape == (8, 8, 3)
    np.testing.assert_array_equal(cut[:, :3], 0)
    np.testing.assert_array_equal(cut[:, 5:], 200)
    with pytest.raises(ValueError, match="cannot cut 11 pixels out of a shorter side of 10"):
        CentreCrop(11, shorter=10)


def test_files_decode_whatever_their_colours(encode):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    greys = colours[..., 0]
    draws = Draws((0, 0), 0, 0)
    np.testing.assert_array_equal(Decode()(encode(colours).read(), draws), colours)
    np.testing.assert_array_equal(Decode(1)(encode(greys).read(), draws), greys[..., None])
    np.testing.assert_array_equal(
        Decode()(encode(greys).read(), draws), np.repeat(greys[..., None], 3, axis=-1)
    )
    from PIL import Image

    cmyk = np.array(Image.fromarray(np.full((9, 9, 3), 90, np.uint8)).convert("CMYK"))
    file = encode_cmyk(cmyk)
    for transform in (Decode(), RandomResizedCrop(4), CentreCrop(4, shorter=5)):
        pixels = transform(file, draws)
        assert pixels.shape[-1] == 3
        np.testing.assert_allclose(pixels, 90, atol=2)


def encode_cmyk(pixels):
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.frombytes("CMYK", pixels.shape[:2], pixels.tobytes()).save(file, "JPEG", quality=95)
    return file.getvalue()
