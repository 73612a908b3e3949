import dataclasses
import enum
import json
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from experiments._records import canonical, plain
from experiments.report import Censored


class Point(NamedTuple):
    x: int
    y: float


class Kind(enum.Enum):
    GLOBAL = 1


@dataclasses.dataclass(frozen=True)
class Outer:
    point: Point
    kind: Kind


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Outer(Point(1, 2.0), Kind.GLOBAL), {"point": {"x": 1, "y": 2.0}, "kind": "GLOBAL"}),
        ({1: (True, None)}, {"1": [True, None]}),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([1.5, np.nan]), [1.5, "nan"]),
        (jnp.float32(0.25), 0.25),
        (jnp.array([0.5, 2.0], jnp.bfloat16), [0.5, 2.0]),
        (float("-inf"), "-inf"),
        (Path("runs/worm"), "runs/worm"),
        (Path("/home/me/data"), ".../data"),
        (Censored(12), {"above": 12}),
    ],
)
def test_values_become_plain(value, expected):
    result = plain(value)
    assert result == expected
    assert type(result) is type(expected)
    assert json.loads(canonical(value)) == expected


def test_the_order_of_keys_does_not_matter():
    assert (
        canonical({"b": 1, "a": "é"})
        == canonical({"a": "é", "b": 1})
        == ('{\n  "a": "é",\n  "b": 1\n}\n')
    )


def test_what_has_no_place_is_named():
    with pytest.raises(TypeError, match=r"config.model\[1\] is a function, which has no place"):
        plain({"model": [1, plain]}, "config")
