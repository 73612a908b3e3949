"""Sparse training written down once more with NumPy, float64 and stable sorts."""

import math
from fractions import Fraction

import numpy as np


def lowest(scores, among, count):
    """The flat indices of the lowest scores; of equal ones the higher index goes."""
    where = np.flatnonzero(among)
    values = np.asarray(scores, np.float64).ravel()[where]
    order = np.lexsort((-where, values))
    return where[order[:count]]


def highest(scores, among, count):
    """The flat indices of the highest scores; of equal ones the lower index comes."""
    where = np.flatnonzero(among)
    values = np.asarray(scores, np.float64).ravel()[where]
    order = np.lexsort((where, -values))
    return where[order[:count]]


def moved(mask, drop, grow, fraction, regrow=True, min_kept=1):
    """The mask after one update of a leaf, by drop and growth scores."""
    flat = np.asarray(mask).ravel()
    kept = int(flat.sum())
    count = min(math.ceil(Fraction(str(fraction)) * kept), max(kept - min_kept, 0))
    if not regrow:
        count = min(count, flat.size - kept)
    stay = flat.copy()
    stay[lowest(drop, flat, count)] = False
    new = stay.copy()
    new[highest(grow, ~stay if regrow else ~flat, count)] = True
    return new.reshape(np.shape(mask))


def jaxpruner(mask, weight, gradient, fraction):
    """JaxPruner's rule: two rankings with sentinels, ties by the lower flat index."""
    flat, w, g = np.asarray(mask).ravel(), np.abs(weight).ravel(), np.abs(gradient).ravel()
    total = int(flat.sum())
    keep = round(total * (1 - fraction))
    drop = np.where(flat, w, w.min() - 1)
    stay = np.zeros(flat.size, bool)
    stay[np.argsort(-drop, kind="stable")[:keep]] = True
    grow = np.where(stay, g.max() + 1, g)
    new = np.zeros(flat.size, bool)
    new[np.argsort(-grow, kind="stable")[:total]] = True
    return new.reshape(np.shape(mask))
