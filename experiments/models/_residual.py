"""Where the blocks of a residual network are, and how wide."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from experiments.models._checks import check_widths

# convolutions inside a block before the one that writes to the stream, and how many times narrower they are
_INNER, _NARROWER = {"basic": 1, "bottleneck": 2}, {"basic": 1, "bottleneck": 4}

Config = TypeVar("Config")


class Convolution(NamedTuple):
    """Sizes of one convolution of a block."""

    inputs: int
    outputs: int
    kernel: int
    stride: int


class Block(NamedTuple):
    """Sizes of one block.

    Attributes:
      inputs: channels that it reads from the residual stream.
      inner: output channels of its convolutions but the last: one in a basic block, two in a bottleneck.
      outputs: channels that it adds to the stream.
      stride: 2 where it halves the map.
      changes: whether the stream is another one behind it, so that the shortcut cannot be the identity.
    """

    inputs: int
    inner: tuple[int, ...]
    outputs: int
    stride: int
    changes: bool

    @property
    def convolutions(self) -> list[Convolution]:
        """Two of 3x3, the first with the stride; or of 1x1, 3x3 with the stride, 1x1."""
        kernels, strided = ((3, 3), 0) if len(self.inner) == 1 else ((1, 3, 1), 1)
        ends = itertools.pairwise((self.inputs, *self.inner, self.outputs))
        return [
            Convolution(i, o, kernel, self.stride if index == strided else 1)
            for index, ((i, o), kernel) in enumerate(zip(ends, kernels, strict=True))
        ]


def check_residual(config: Any) -> None:
    """Raise ``ValueError`` unless blocks, block, widths, stem_width and inner_widths make a network."""
    kind = type(config).__name__
    check_widths("widths", config.widths)
    counts = stage_blocks(config)
    if len(counts) != len(config.widths):
        raise ValueError(
            f"{kind}: blocks={config.blocks} names {len(counts)} stages and widths={config.widths} "
            f"{len(config.widths)}: give one number for each stage, or one int for all."
        )
    for count in counts:
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{kind}: blocks={config.blocks} must be at least 1.")
    if config.block not in _INNER:
        raise ValueError(f"{kind}: block={config.block!r} is neither 'basic' nor 'bottleneck'.")
    if config.stem_width is not None:
        check_widths("stem_width", (config.stem_width,))
    if config.inner_widths is not None:
        check_widths("inner_widths", config.inner_widths)
        wanted = sum(counts) * _INNER[config.block]
        if len(config.inner_widths) != wanted:
            raise ValueError(
                f"{kind}: inner_widths holds {len(config.inner_widths)} widths, and {sum(counts)} blocks "
                f"of kind {config.block!r} take {wanted}."
            )
    elif _standard(config, config.widths) is None:
        raise ValueError(
            f"{kind}: widths={config.widths} are not multiples of {_NARROWER[config.block]}, which a "
            f"{config.block} is narrower inside: give inner_widths."
        )


def stage_blocks(config: Any) -> tuple[int, ...]:
    """Return the number of blocks of each stage."""
    if isinstance(config.blocks, int):
        return (config.blocks,) * len(config.widths)
    return config.blocks


def blocks_of(config: Any) -> list[Block]:
    """Return the sizes of all blocks; every stage after the first begins with stride 2."""
    found = []
    inner = iter(config.inner_widths or _standard(config, config.widths) or ())
    inputs = config.widths[0] if config.stem_width is None else config.stem_width
    for stage, (outputs, count) in enumerate(zip(config.widths, stage_blocks(config), strict=True)):
        for index in range(count):
            begins = index == 0 and stage > 0
            changes = begins or (index == stage == 0 and config.stem_width is not None)
            inside = tuple(itertools.islice(inner, _INNER[config.block]))
            found.append(Block(inputs, inside, outputs, 2 if begins else 1, changes))
            inputs = outputs
    return found


def at_widths(config: Config, outputs: Callable[[str], int], stem: str) -> Config:
    """Return a residual network as wide as its kernels are.

    Args:
      config: of the network; its blocks are ``layers/1`` and so on, their convolutions ``convs/0`` and so on.
      outputs: output channels of a kernel, by its path.
      stem: path of the stem's kernel.
    """
    settings: Any = config
    inner: list[int] = []
    written = []
    for index, block in enumerate(blocks_of(config), 1):
        kernels = [f"layers/{index}/convs/{j}/conv/kernel" for j in range(len(block.inner) + 1)]
        *inside, last = map(outputs, kernels)
        inner += inside
        written.append(last)
    counts = stage_blocks(config)
    widths = tuple(written[sum(counts[:stage])] for stage in range(len(counts)))
    return dataclasses.replace(
        settings,
        widths=widths,
        stem_width=None if settings.stem_width is None else outputs(stem),
        inner_widths=None if tuple(inner) == _standard(config, widths) else tuple(inner),
    )


def _standard(config: Any, widths: Sequence[int]) -> tuple[int, ...] | None:
    """Return the inner widths that follow from the stream's, or None where none do."""
    times = _NARROWER[config.block]
    if any(width % times for width in widths):
        return None
    each = zip(widths, stage_blocks(config), strict=True)
    return tuple(w // times for w, count in each for _ in range(count * _INNER[config.block]))
