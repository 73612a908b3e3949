"""Move batches to the device ahead of their use."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

from experiments.data._stream import Batch, PaddedBatch

AnyBatch = TypeVar("AnyBatch", Batch, PaddedBatch)


def prefetch(
    batches: Iterable[AnyBatch], *, depth: int = 2, sharding: jax.sharding.Sharding | None = None
) -> Iterator[AnyBatch]:
    """Keep the next batches on their way to the device while this one is computed with.

    A transfer is started and not waited for. With depth 2, the usual double buffering, one batch is in use
    while the next one travels.

    Args:
      batches: NumPy batches of a `Stream`.
      depth: batches that have left the host and that the caller has not let go of.
      sharding: of the global batch, its first axis dealt out to processes in their order; None for the
        default device.

    Returns:
      Iterator of the same batches, their arrays on the device. Where there are several processes, the arrays
      are global ones.

    Raises:
      ValueError: depth is below 1.

    Example:
      >>> from experiments.data import Batch, Position
      >>> batch = Batch(np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int32), Position(0, 1))
      >>> [type(moved.images) is not np.ndarray for moved in prefetch([batch])]
      [True]
    """
    if depth < 1:
        raise ValueError(f"depth={depth}: at least one batch must leave the host.")

    def place(array: np.ndarray) -> jax.Array:
        if sharding is None:
            return jax.device_put(array)
        return jax.make_array_from_process_local_data(sharding, array)

    waiting: deque[AnyBatch] = deque()
    for batch in batches:
        fields: dict[str, Any] = batch._asdict()
        arrays = {k: place(v) for k, v in fields.items() if isinstance(v, np.ndarray)}
        waiting.append(batch._replace(**(fields | arrays)))
        if len(waiting) >= depth:
            yield waiting.popleft()
    yield from waiting
