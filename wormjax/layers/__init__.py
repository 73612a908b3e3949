"""Layer tickets: whole residual blocks are removed, before training or after."""

from wormjax.layers._candidates import Candidate, Candidates, candidates
from wormjax.layers._remove import remove
from wormjax.layers._score import l1, random, score, signed_snip
from wormjax.layers._select import select
from wormjax.layers._trained import cka, expect_abs, hrank, kl, pls_vip
from wormjax.layers._views import penultimate, streams, switched

__all__ = [
    "Candidate",
    "Candidates",
    "candidates",
    "cka",
    "expect_abs",
    "hrank",
    "kl",
    "l1",
    "penultimate",
    "pls_vip",
    "random",
    "remove",
    "score",
    "select",
    "signed_snip",
    "streams",
    "switched",
]
