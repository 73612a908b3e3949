"""Layer tickets: whole residual blocks are removed, before training or after."""

from wormjax.layers._algorithms import (
    Rewound,
    Training,
    after_training,
    at_initialisation,
    rewound_schedule,
)
from wormjax.layers._candidates import Candidate, Candidates, candidates
from wormjax.layers._matched_filters import matched_filters
from wormjax.layers._remove import remove
from wormjax.layers._score import l1, random, score, signed_snip
from wormjax.layers._select import select
from wormjax.layers._trained import cka, expect_abs, hrank, kl, pls_vip
from wormjax.layers._views import penultimate, streams, switched
from wormjax.layers._winning import Winning, winning

__all__ = [
    "Candidate",
    "Candidates",
    "Rewound",
    "Training",
    "Winning",
    "after_training",
    "at_initialisation",
    "candidates",
    "cka",
    "expect_abs",
    "hrank",
    "kl",
    "l1",
    "matched_filters",
    "penultimate",
    "pls_vip",
    "random",
    "remove",
    "rewound_schedule",
    "score",
    "select",
    "signed_snip",
    "streams",
    "switched",
    "winning",
]
