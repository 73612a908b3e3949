"""Plain values for JSON: the same record always gives the same text."""

import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def plain(value: Any, where: str = "record") -> Any:
    """Return ``value`` as dicts, lists, strings, numbers, bools and None.

    NaN and infinities become the strings "nan", "inf" and "-inf", because JSON has no such numbers;
    an absolute path keeps only its last part, because records must not name a machine's folders.

    Args:
      value: dataclasses, NamedTuples, mappings, sequences, arrays, enums, paths and scalars, nested.
      where: name of the value in the message.

    Returns:
      The plain value.

    Raises:
      TypeError: something else is inside; the message gives its place.

    Example:
      >>> plain({"epsilon": np.float32(0.5), "widths": (16, 32), "loss": float("nan")})
      {'epsilon': 0.5, 'widths': [16, 32], 'loss': 'nan'}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: plain(getattr(value, name), f"{where}.{name}") for name in names}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {n: plain(v, f"{where}.{n}") for n, v in zip(value._fields, value, strict=True)}
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Path):
        return f".../{value.name}" if value.is_absolute() else value.as_posix()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            return plain(array.tolist(), where)
        if array.dtype.kind == "V":  # bfloat16 and its relatives
            return plain(array.astype(np.float32).tolist(), where)
    raise TypeError(
        f"{where} is a {type(value).__name__}, which has no place in a JSON record; turn it into "
        "numbers, text or a list of them first."
    )


def canonical(value: Any) -> str:
    """Return JSON text with sorted keys, two spaces of indent and a final newline.

    Example:
      >>> print(canonical({"b": 1, "a": [True, None]}), end="")
      {
        "a": [
          true,
          null
        ],
        "b": 1
      }
    """
    text = json.dumps(plain(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text + "\n"
