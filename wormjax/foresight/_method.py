"""A method of foresight pruning: a score, how often it is asked, and whether what is pruned may return."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Literal

from jaxtyping import PyTree

from wormjax._masks import apply_masks

_MAKERS = f"{__package__}._methods"
Regrow = Literal["as_scored", "never"]
# (params, masks, batches, key) -> score tree; params are unmasked, and stay so
Scorer = Callable[[PyTree, PyTree, Any, Any], PyTree]


@dataclasses.dataclass(frozen=True)
class Method:
    """What `wj.foresight.prune` asks for scores.

    Attributes:
      name: for records.
      score: function of (params, masks, batches, key); a pure function of arrays, compiled once for all rounds.
      rounds: how often, unless the caller says otherwise.
      regrow: ``"as_scored"`` ranks what is pruned by its score like all else; ``"never"`` leaves it pruned.
    """

    name: str
    score: Scorer
    rounds: int = 1
    regrow: Regrow = "as_scored"


def as_method(score: Any) -> Method:
    """Return a method; a plain function of (params, batches) becomes one that sees masked parameters.

    Raises:
      TypeError: it is neither, or makes a method and was not called.
    """
    if isinstance(score, Method):
        return score
    if getattr(score, "__module__", None) == _MAKERS:
        wanted = [
            name for name, p in inspect.signature(score).parameters.items() if p.default is p.empty
        ]
        call = f"{score.__name__}({', '.join(name for name in wanted if name != 'options')})"
        raise TypeError(
            f"score is the function {score.__name__!r}, which makes a method. Call it: wj.foresight.methods.{call}."
        )
    if not callable(score):
        raise TypeError(
            f"score is a {type(score).__name__}. Pass a method such as wj.foresight.methods.px(apply), or a function "
            "of (params, batches) that returns a score tree."
        )

    def masked(params: PyTree, masks: PyTree, batches: Any, key: Any) -> PyTree:
        return score(apply_masks(params, masks), batches)

    return Method(getattr(score, "__name__", "score"), masked)
