"""What is known of a residual branch, and of a scan over stacked layers."""

import dataclasses

from wormjax.evaluation._inlined import Value


@dataclasses.dataclass(frozen=True, eq=False)
class Branch:
    """A part that can go.

    Attributes:
      name: common path of the parameters that only it reads; of a step of a scan, with the step in brackets.
      stage: number of its stage, a run of blocks that write to a stream of one shape.
      shape: of the stream.
      sum: position of the sum that adds it, or of the scan.
      value: what is added; None for a step of a scan.
      step: which step of a scan it is, or None.
      owned: positions of the parameters that only it reads, whole or (of a scan) in one row.
      reads: positions of all parameters that it reads.
      parameters: number of parameter entries that go with it.
      macs: multiply-accumulates that go with it.
      ops: positions of the operations that go with it.
    """

    name: str
    stage: int
    shape: tuple[int, ...]
    sum: int
    value: Value | None
    step: int | None
    owned: tuple[int, ...]
    reads: tuple[int, ...]
    parameters: int
    macs: int
    ops: frozenset[int]


@dataclasses.dataclass(frozen=True, eq=False)
class Residual:
    """All of a program's branches.

    Attributes:
      branches: in the order in which they are added.
      fixed: for each block that must stay, the position of its sum and its stage.
      refused: why something that looks like a branch is none.
    """

    branches: tuple[Branch, ...]
    fixed: tuple[tuple[int, int], ...]
    refused: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Scanned:
    """A scan whose steps can go.

    Attributes:
      position: of its equation.
      length: how many steps it has.
      carry: which part of the carry is the stream.
      params: positions of the parameters that hold a row a step.
      state: positions of the leaves of the state that do.
    """

    position: int
    length: int
    carry: int
    params: tuple[int, ...]
    state: tuple[int, ...]
