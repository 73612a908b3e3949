"""Layer tickets: whole residual blocks are removed, before training or after."""

from wormjax.layers._candidates import Candidate, Candidates, candidates
from wormjax.layers._remove import remove

__all__ = ["Candidate", "Candidates", "candidates", "remove"]
