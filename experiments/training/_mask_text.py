"""A flat mask as text, so that records of a run hold its masks."""

from collections.abc import Sequence

import numpy as np


def mask_text(mask: np.ndarray) -> str:
    """Return a flat mask as text, 8 bits in two digits; `mask_from_text` reads it."""
    return np.packbits(np.asarray(mask, bool)).tobytes().hex()


def mask_from_text(text: str, size: int) -> np.ndarray:
    """Return the flat bool mask of ``size`` entries that `mask_text` wrote."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=size).astype(bool)


def mask_distances(masks: Sequence[str], size: int) -> np.ndarray:
    """Return the mask distances of every two of E masks as text, float64 ``(E, E)``."""
    flat = np.stack([mask_from_text(mask, size) for mask in masks])
    return (flat[:, None] != flat[None]).mean(axis=-1)
