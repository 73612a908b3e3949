"""The methods that have a name, with the rounds of their papers.

Batches are pairs (inputs, labels), one pruning set for all methods; a method takes what it needs. Functions of a
model are in evaluation mode for SynFlow, SynFlow-L2 and PX, and on the statistics of the batch for SNIP, IterSNIP and
GraSP, as the papers' code has it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import Array, PyTree

from wormjax import scores
from wormjax._masks import apply_masks
from wormjax.foresight._method import Method
from wormjax.scores._batches import check_batches
from wormjax.scores._protocol import Rule

Apply = Callable[[PyTree, Any], Array]
Loss = Callable[[PyTree, Any], Array]


def random(*, prunable: Rule = None) -> Method:
    """Random scores, drawn anew in each round: the control."""

    def score(params, masks, batches, key):
        if key is None:
            raise ValueError("The method 'random' draws numbers: pass key=jax.random.key(...).")
        return scores.random(params, key, prunable=prunable)

    return Method("random", score)


def magnitude(*, prunable: Rule = None) -> Method:
    """The absolute values of the weights as they are; see `wj.scores.magnitude`."""
    return Method("magnitude", lambda p, m, b, k: scores.magnitude(p, prunable=prunable))


def snip(loss: Loss, *, prunable: Rule = None) -> Method:
    """The derivative of the loss in the mask, summed over batches; what is pruned may return; see `wj.scores.snip`."""
    of_all = functools.partial(_sum_of, loss)

    def score(params, masks, batches, key):
        return scores.snip(
            params, check_batches(batches), loss=of_all, masks=masks, prunable=prunable
        )

    return Method("snip", score)


def iter_snip(loss: Loss, *, prunable: Rule = None) -> Method:
    """SNIP of what is left, in 100 rounds; see `wj.scores.iter_snip`."""
    of_all = functools.partial(_sum_of, loss)

    def score(params, masks, batches, key):
        return scores.iter_snip(
            params, check_batches(batches), loss=of_all, masks=masks, prunable=prunable
        )

    return Method("iter_snip", score, 100)


def grasp(apply: Apply, *, temperature: float = 200.0, prunable: Rule = None) -> Method:
    """The share in the gradient flow; what is pruned stays so, or it would outrank negative scores.

    See `wj.scores.grasp`.
    """

    def score(params, masks, batches, key):
        return scores.grasp(
            params,
            check_batches(batches),
            apply=apply,
            temperature=temperature,
            masks=masks,
            prunable=prunable,
        )

    return Method("grasp", score, regrow="never")


def synflow(apply: Apply, *, prunable: Rule = None, biases: Rule = None) -> Method:
    """The synaptic flow, without data, in 100 rounds; see `wj.scores.synflow`."""

    def score(params, masks, batches, key):
        left, inputs = apply_masks(params, masks), _inputs(check_batches(batches)[0])
        return scores.synflow(left, inputs, apply=apply, prunable=prunable, biases=biases)

    return Method("synflow", score, 100)


def synflow_l2(apply: Apply, *, prunable: Rule = None, **options: Any) -> Method:
    """The synaptic flow of squared weights, in 100 rounds; see `wj.scores.synflow_l2`."""

    def score(params, masks, batches, key):
        inputs = _inputs(check_batches(batches)[0])
        return scores.synflow_l2(
            params, inputs, apply=apply, masks=masks, prunable=prunable, **options
        )

    return Method("synflow_l2", score, 100)


def ntk_sap(
    apply: Callable[..., Array], *, rounds: int = 20, prunable: Rule = None, **options: Any
) -> Method:
    """The spectrum of the tangent kernel of random networks, in 20 rounds (100 on larger data).

    See `wj.scores.ntk_sap`.
    """

    def score(params, masks, batches, key):
        if key is None:
            raise ValueError("The method 'ntk_sap' draws numbers: pass key=jax.random.key(...).")
        inputs = [_inputs(batch) for batch in check_batches(batches)]
        return scores.ntk_sap(
            params, inputs, key, apply=apply, masks=masks, prunable=prunable, **options
        )

    return Method("ntk_sap", score, rounds)


def px(apply: Apply, *, prunable: Rule = None, **options: Any) -> Method:
    """The path bound on the trace of the tangent kernel, in 100 rounds; see `wj.scores.px` for the modes."""

    def score(params, masks, batches, key):
        inputs = [_inputs(batch) for batch in check_batches(batches)]
        return scores.px(params, inputs, apply=apply, masks=masks, prunable=prunable, **options)

    mode = options.get("mode", "paper")
    return Method("px" if mode == "paper" else f"px_{mode}", score, 100)


def px_gated(apply: Apply, *, prunable: Rule = None, **options: Any) -> Method:
    """PX whose paths carry the data, in 100 rounds; see `wj.scores.px_gated`."""

    def score(params, masks, batches, key):
        inputs = [_inputs(batch) for batch in check_batches(batches)]
        return scores.px_gated(
            params, inputs, apply=apply, masks=masks, prunable=prunable, **options
        )

    return Method("px_gated", score, 100)


def px_exact(apply: Apply, *, prunable: Rule = None, outputs: str = "per_logit") -> Method:
    """The exact share in the trace, in one round, for its cost; see `wj.scores.px_exact`."""

    def score(params, masks, batches, key):
        given = check_batches(batches)
        data = given if outputs == "label" else [_inputs(batch) for batch in given]
        return scores.px_exact(
            params,
            data,
            apply=apply,
            outputs=outputs,  # type: ignore[arg-type]
            masks=masks,
            prunable=prunable,
        )

    return Method("px_exact", score)


def inverted(method: Method) -> Method:
    r"""Prune the most important first: a sanity check.

    The papers' code takes :math:`1/s`; the negative has the same order where scores are positive, and no infinity
    where one is 0.
    """

    def score(params, masks, batches, key):
        return jax.tree.map(
            lambda s: -s if s.ndim else s, method.score(params, masks, batches, key)
        )

    return Method(f"{method.name}_inverted", score, method.rounds, "never")


def _sum_of(loss: Loss, params: PyTree, batches: Sequence[Any]) -> Array:
    first, *rest = batches
    total = loss(params, first)
    for batch in rest:
        total = total + loss(params, batch)
    return total


def _inputs(batch: Any) -> Any:
    return batch[0] if isinstance(batch, tuple | list) else batch
