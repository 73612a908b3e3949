"""Row blocks of a matrix of weights: which output channels read which columns, as data and on disk."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

Granularity = Literal["input_channel", "element"]
Form = Literal["blocks", "whole_block", "dense", "unstructured"]
FORMAT = 1


class Block(NamedTuple):
    """A dense block: these rows read these columns, all of them.

    Attributes:
      rows: output channels, rising.
      columns: input channels; or, by element, indices into (input channel, *window) flattened.
    """

    rows: Int[np.ndarray, " _"]
    columns: Int[np.ndarray, " _"]


@dataclasses.dataclass(frozen=True, eq=False)
class LayerBlocks:
    """The blocks of one weight.

    Attributes:
      shape: output channels, input channels, and places of the window (1 for a dense layer).
      blocks: row-disjoint; a row in none of them is zero. None for ``"unstructured"``.
      granularity: what a column is.
      form: ``"blocks"``; ``"whole_block"``, the non-empty rows by the non-empty columns; ``"dense"``, everything;
        ``"unstructured"``, the mask as it was, which runs dense.
    """

    shape: tuple[int, int, int]
    blocks: tuple[Block, ...]
    granularity: Granularity
    form: Form

    @property
    def columns(self) -> int:
        """Columns of the matrix that the blocks are of."""
        return self.shape[1] * (self.shape[2] if self.granularity == "element" else 1)

    @property
    def executed(self) -> float:
        """Fraction of the layer's multiplications that running the blocks takes; 1 where nothing is skipped."""
        if self.form in ("dense", "unstructured"):
            return 1.0
        done = sum(len(b.rows) * len(b.columns) for b in self.blocks)
        return done / (self.shape[0] * self.columns)

    def mask(self) -> Bool[np.ndarray, "rows columns"]:
        """Return the mask that the blocks are, over the matrix's columns.

        Raises:
          ValueError: it is unstructured, and no list of blocks.
        """
        if self.form == "unstructured":
            raise ValueError(
                "An unstructured layer has no blocks; its mask is the one that was given."
            )
        mask = np.zeros((self.shape[0], self.columns), bool)
        if self.form == "dense":
            return ~mask
        for block in self.blocks:
            mask[np.ix_(block.rows, block.columns)] = True
        return mask


class BlockListError(ValueError):
    """A file of blocks is not one, or does not hold together."""


@dataclasses.dataclass(frozen=True, eq=False)
class BlockList:
    """The blocks of a network, by path of the weight.

    Attributes:
      layers: the blocks of each.
      made_by: what made them: rule, seed, and so on, in JSON values.

    Example:
      >>> import tempfile
      >>> blocks = (Block(np.array([0, 2]), np.array([1])), Block(np.array([1]), np.array([0, 1])))
      >>> listed = BlockList({"a/kernel": LayerBlocks((3, 2, 9), blocks, "input_channel", "blocks")}, {"seed": 0})
      >>> path = tempfile.mkdtemp() + "/blocks.npz"
      >>> listed.save(path)
      >>> BlockList.load(path)["a/kernel"].mask().astype(int)
      array([[0, 1],
             [1, 1],
             [0, 1]])
    """

    layers: Mapping[str, LayerBlocks]
    made_by: Mapping[str, Any]

    def __getitem__(self, path: str) -> LayerBlocks:
        return self.layers[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def save(self, path: str | os.PathLike) -> None:
        """Write everything into one ``.npz`` file: index arrays and a line of JSON; nothing is pickled."""
        layers: list[dict[str, Any]] = []
        arrays: dict[str, Any] = {}
        for k, (name, layer) in enumerate(self.layers.items()):
            told = {"path": name, "shape": list(layer.shape), "granularity": layer.granularity}
            layers.append(told | {"form": layer.form, "blocks": len(layer.blocks)})
            for b, block in enumerate(layer.blocks):
                arrays[f"{k}.{b}.rows"] = block.rows.astype(np.int32)
                arrays[f"{k}.{b}.columns"] = block.columns.astype(np.int32)
        record = json.dumps({"format": FORMAT, "made_by": dict(self.made_by), "layers": layers})
        final = Path(path)
        draft = final.with_name(final.name + ".writing")
        with draft.open("wb") as file:
            np.savez_compressed(file, record=np.frombuffer(record.encode(), np.uint8), **arrays)
        draft.rename(final)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "BlockList":
        """Read what `save` wrote.

        Raises:
          BlockListError: it is not such a file, or its blocks are out of range or share rows.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                record = json.loads(file["record"].tobytes())
                if record["format"] != FORMAT:
                    raise BlockListError(
                        f"{path} has the format {record['format']!r}; this version reads {FORMAT}."
                    )
                layers = {
                    told["path"]: LayerBlocks(
                        tuple(told["shape"]),
                        tuple(
                            Block(file[f"{k}.{b}.rows"], file[f"{k}.{b}.columns"])
                            for b in range(told["blocks"])
                        ),
                        told["granularity"],
                        told["form"],
                    )
                    for k, told in enumerate(record["layers"])
                }
        except BlockListError:
            raise
        except FileNotFoundError:
            raise
        except Exception as error:  # whatever NumPy, zip and JSON make of a broken file
            raise BlockListError(f"{path} is no list of blocks, or is damaged: {error}.") from None
        for name, layer in layers.items():
            check_blocks(name, layer.blocks, layer.shape[0], layer.columns)
        return cls(layers, record["made_by"])


def check_blocks(name: str, blocks: Sequence[Block], rows: int, columns: int) -> None:
    """Raise unless blocks are row-disjoint and in range.

    Raises:
      BlockListError: they are not.
    """
    seen = np.concatenate([b.rows for b in blocks]) if blocks else np.zeros(0, int)
    if len(np.unique(seen)) != len(seen):
        raise BlockListError(
            f"The blocks of {name!r} share rows: each output channel is in one block."
        )
    for block in blocks:
        for what, index, size in (("row", block.rows, rows), ("column", block.columns, columns)):
            if index.ndim != 1 or (len(index) and not 0 <= index.min() <= index.max() < size):
                raise BlockListError(
                    f"A block of {name!r} has a {what} outside the {size} of the weight."
                )
