"""What a rule sees of one leaf when a mask is updated, and what it says where something is missing."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

REMEDIES = {
    "gradient": "Pass the gradients: it reads them, and tx.update passes those that it is given.",
    "momentum": "Give the inner optimizer a momentum (optax.sgd(..., momentum=0.9), optax.adam), or let "
    "accumulate=0.9 average the gradients and grow by 'gradient'.",
    "second_moment": "Use an inner optimizer with two moments (optax.adam and its kin).",
    "fired": "It needs the set of connections that were ever active: sparse_training(..., track_fired=True).",
    "running": "It is an average over steps, which sparse_training keeps; alone it has no past.",
    "curvature": "Pass the loss as a function of the parameters: tx.update(..., value_fn=loss), from which it "
    "takes a Hessian-vector product at mask updates only.",
    "key": "Pass a PRNG key.",
}


class Seen(NamedTuple):
    """One leaf at a mask update; floats are float32 (float64 where the parameter is), None what there is not.

    Attributes:
      weight: the parameter, 0 where it is pruned.
      mask: the mask in force.
      gradient: the dense gradient, or its average (``accumulate=``).
      momentum: the inner optimizer's first moment or trace.
      second_moment: the inner optimizer's second moment.
      running: average of the criterion's score over the steps since the last update.
      curvature: Hessian times gradient.
      fired: where the mask was ever True.
      key: PRNG key of this leaf, this step and this purpose.
    """

    weight: Float[Array, "..."]
    mask: Bool[Array, "..."]
    gradient: Float[Array, "..."] = None  # type: ignore[assignment]
    momentum: Float[Array, "..."] = None  # type: ignore[assignment]
    second_moment: Float[Array, "..."] = None  # type: ignore[assignment]
    running: Float[Array, "..."] = None  # type: ignore[assignment]
    curvature: Float[Array, "..."] = None  # type: ignore[assignment]
    fired: Bool[Array, "..."] = None  # type: ignore[assignment]
    key: Key[Array, ""] = None  # type: ignore[assignment]

    def require(self, rule: str, needs: tuple[str, ...]) -> None:
        """Raise where something that the rule called ``rule`` needs is missing."""
        for field in needs:
            if getattr(self, field) is None:
                raise ValueError(
                    f"{rule!r} needs the {field.replace('_', ' ')}, and there is none. {REMEDIES[field]}"
                )


def finite(scores: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the scores with what is NaN or infinite as the lowest finite number."""
    low = jnp.array(jnp.finfo(scores.dtype).min, scores.dtype)
    return jnp.where(jnp.isfinite(scores), scores, low)
