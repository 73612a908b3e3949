"""Models that have a name, for images of a given size."""

from typing import Any

from experiments.models._build import ModelConfig
from experiments.models._named import named


def sized(name: str, image_shape: tuple[int, ...], **changes: Any) -> ModelConfig:
    """Return the configuration of a known model for such images.

    Args:
      name: as for `named`.
      image_shape: height, width and channels. It sets ``channels``, or ``inputs`` of a model that flattens; the
        others take images of any height and width.
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
    if "channels" in fields:
        return named(name, channels=channels, **changes)
    return named(name, inputs=height * width * channels, **changes)
