"""From the shapes of a shrunk network back to a configuration that builds it natively."""

from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

import jax

from experiments.models._build import ModelConfig, abstract
from wormjax._paths import leaf_names

Config = TypeVar("Config", bound=ModelConfig)


def narrowed(config: Config, shapes: Mapping[str, Sequence[int]]) -> Config:
    """Return the configuration of a network whose layers have become narrower.

    A network built from it takes the parameters and the state of the ticket as they are::

        small = abstract(narrowed(config, ticket.widths))
        logits, _ = small.apply(ticket.params, ticket.state, images)

    Every configuration says by its ``at_widths`` which of its settings its kernels fix; here it is made
    sure that the network so configured has all the shapes given, and no others.

    Args:
      config: of the network that was shrunk.
      shapes: shape of every small parameter by path, ``ticket.widths``.

    Raises:
      TypeError: the configuration is of none of the models of this package.
      ValueError: no narrower network of this kind has these shapes; the message names the first that
        does not fit, or why there is no such configuration.

    Example:
      >>> from experiments.models import VGGConfig
      >>> config = VGGConfig(widths=(8, "M", 8), channels=1)
      >>> shapes = {"layers/0/conv/kernel": (3, 3, 1, 5), "layers/1/conv/kernel": (3, 3, 5, 2)}
      >>> norms = {f"layers/{i}/norm/{n}": (w,) for i, w in ((0, 5), (1, 2)) for n in ("bias", "scale")}
      >>> narrowed(config, shapes | norms | {"head/kernel": (2, 10), "head/bias": (10,)}).widths
      (5, 'M', 2)
    """
    abstract(config)  # raises on what is no configuration
    kind = type(config).__name__

    def outputs(name: str) -> int:
        if not shapes.get(name):
            raise ValueError(
                f"A {kind} has a kernel {name!r}, and the shapes given say {shapes.get(name)}: they are "
                "not those of such a network."
            )
        return shapes[name][-1]

    small = cast(Config, config.at_widths(outputs))
    params = abstract(small).params
    expected = {
        n: x.shape for n, x in zip(leaf_names(params), jax.tree.leaves(params), strict=True)
    }
    for name in [*expected, *sorted(shapes.keys() - expected.keys())]:
        if tuple(shapes.get(name, ())) != expected.get(name):
            raise ValueError(
                f"{small} has {name!r} of shape {expected.get(name)}, and the shapes given say "
                f"{shapes.get(name)}: they are not those of such a network."
            )
    return small
