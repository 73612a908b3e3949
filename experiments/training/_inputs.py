"""What the training and the evaluation drivers ask of their arguments."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from experiments.training._seeds import count_seeds
from experiments.training._state import TrainState

Mode = Literal["auto", "loop", "scan"]


def pick_mode(mode: Mode) -> Literal["loop", "scan"]:
    """Return the driver: a loop on CPU and a scan elsewhere when it is left to us."""
    if mode not in ("auto", "loop", "scan"):
        raise ValueError(f"mode is {mode!r}. Use 'loop', 'scan' or 'auto'.")
    if mode != "auto":
        return mode
    return "loop" if jax.default_backend() == "cpu" else "scan"


def check_inputs(state: TrainState, images: Array, labels: Array, masks: PyTree | None) -> int:
    """Return the number of seeds, or raise a sentence that names what does not fit."""
    seeds = count_seeds(state, "the state")
    if masks is not None and count_seeds(masks, "masks") != seeds:
        raise ValueError(
            f"masks are for {count_seeds(masks, 'masks')} seeds and the state holds {seeds}. "
            "Stack one tree of masks a seed with stack_seeds, in the state's order."
        )
    for name, x in (("images", images), ("labels", labels)):
        if not isinstance(x, jax.Array):
            raise TypeError(
                f"{name} are a {type(x).__name__} on the host and would travel at every step. "
                "Move them to the device once with jax.device_put."
            )
    if labels.ndim != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels are {labels.dtype} of shape {labels.shape}. Give one integer class index an image."
        )
    if images.shape[0] != labels.shape[0]:
        raise ValueError(
            f"There are {images.shape[0]} images and {labels.shape[0]} labels. Give one label an image."
        )
    return seeds
