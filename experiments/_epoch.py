"""What a training of one arm with one seed says of an epoch."""

import math
from collections.abc import Mapping
from typing import Any


def check_loss(loss: float, arm: str, seed: int, epoch: int) -> None:
    """Refuse to go on with a network that diverged.

    Raises:
      ValueError: the mean training loss of the epoch is not finite.
    """
    if not math.isfinite(loss):
        raise ValueError(
            f"The training loss of arm {arm!r}, seed {seed}, is {loss} in epoch {epoch}. Lower learning_rate."
        )


def epoch_record(
    arm: str, seed: int, epoch: int, loss: float, held_out: Mapping[str, float]
) -> dict[str, Any]:
    """Return the record of an epoch.

    Args:
      arm: the arm's name.
      seed: its seed.
      epoch: epochs done.
      loss: mean training loss of the epoch.
      held_out: accuracies after it, on the splits ``validation`` and ``test``.

    Example:
      >>> epoch_record("dense", 0, 1, 2.5, {"validation": 0.5, "test": 0.25})["test_accuracy"]
      0.25
    """
    return {
        "kind": "epoch",
        "arm": arm,
        "seed": seed,
        "epoch": epoch,
        "train_loss": loss,
        "validation_accuracy": held_out["validation"],
        "test_accuracy": held_out["test"],
    }
