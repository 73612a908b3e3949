"""What JPEG loses: the cosine transform of 8 x 8 blocks, rounded."""

import numpy as np

from wormjax.evaluation._images import Images

# Annex K of the standard: luminance, chrominance
_LUMINANCE = """
16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56  14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99
"""
_CHROMINANCE = """
17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99  47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99
"""
_TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)
_K = np.arange(8)
_COSINES = np.sqrt(2 / 8) * np.cos((2 * _K[None] + 1) * _K[:, None] * np.pi / 16)
_COSINES[0] /= np.sqrt(2)


def through_jpeg(x: Images, quality: float | int) -> Images:
    """Return images as they come back from JPEG of a quality, without subsampling of the colours.

    Args:
      x: in [0, 1]; three channels are taken as red, green and blue, others each by itself.
      quality: 1 to 100, the scale of libjpeg.
    """
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    tables = [
        np.clip(np.floor((np.array(t.split(), float).reshape(8, 8) * scale + 50) / 100), 1, 255)
        for t in (_LUMINANCE, _CHROMINANCE)
    ]
    n, h, w, channels = x.shape
    planes = 255 * x @ _TO_YCC.T if channels == 3 else 255 * x
    centre = np.array([128.0, 0, 0] if channels == 3 else [128.0] * channels)
    padded = np.pad(planes - centre, ((0, 0), (0, -h % 8), (0, -w % 8), (0, 0)), mode="edge")
    blocks = padded.reshape(n, padded.shape[1] // 8, 8, padded.shape[2] // 8, 8, channels)
    spectrum = np.einsum("ui,vj,nricjk->nrcuvk", _COSINES, _COSINES, blocks, optimize=True)
    table = np.stack([tables[0], *[tables[1 if channels == 3 else 0]] * (channels - 1)], axis=-1)
    spectrum = np.round(spectrum / table) * table
    back = np.einsum("ui,vj,nrcuvk->nricjk", _COSINES, _COSINES, spectrum, optimize=True)
    planes = back.reshape(padded.shape)[:, :h, :w] + centre
    planes = planes @ np.linalg.inv(_TO_YCC).T if channels == 3 else planes
    return np.clip(np.round(planes) / 255, 0, 1)
