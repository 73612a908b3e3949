"""Scores: how important is each entry of each parameter?

One criterion a file. Every score is a function of the parameters (and of data or a key where it
needs them) that returns a tree of the same structure; ``_protocol.py`` says what its leaves mean.
"""

from wormjax.scores._diagonal_hessian import diagonal_hessian
from wormjax.scores._grasp import grasp
from wormjax.scores._magnitude import magnitude
from wormjax.scores._norm_scale import norm_scale
from wormjax.scores._protocol import check, never
from wormjax.scores._random import random
from wormjax.scores._snip import snip
from wormjax.scores._synflow import synflow
from wormjax.scores._taylor import taylor

__all__ = [
    "check",
    "diagonal_hessian",
    "grasp",
    "magnitude",
    "never",
    "norm_scale",
    "random",
    "snip",
    "synflow",
    "taylor",
]
