"""Models that have a name, for images of a given size."""

from typing import Any

from experiments.models._build import ModelConfig
from experiments.models._named import named


def sized(name: str, image_shape: tuple[int, ...], **changes: Any) -> ModelConfig:
    """Return the configuration of a known model for such images.

    Args:
      name: as for `named`.
      image_shape: height, width and channels. It sets ``channels``, the ``side`` of a model for square images
        of one size, or ``inputs`` of one that flattens them; the others take any height and width.
      **changes: other fields, as for `named`.

    Returns:
      A configuration for :func:`build`.

    Raises:
      ValueError: there is no model of that name.

    Example:
      >>> sized("lenet300", (8, 8, 1)).inputs, sized("resnet20", (32, 32, 3)).channels
      (64, 3)
    """
    fields = named(name).__dataclass_fields__
    height, width, channels = image_shape
    sizes = {"channels": channels, "side": height, "inputs": height * width * channels}
    return named(name, **{field: n for field, n in sizes.items() if field in fields}, **changes)
