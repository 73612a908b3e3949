"""The tests' own check of annotations is on."""

import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from tests.annotations import modules_with_shapes
from wormjax._selection import ordered_keys


def test_an_array_of_another_kind_is_refused():
    with pytest.raises(TypeCheckError):
        ordered_keys(jnp.arange(3))


def test_the_modules_that_annotate_arrays_are_checked():
    found = modules_with_shapes("wormjax")
    assert {"wormjax._selection", "wormjax._worm", "wormjax.structure._shrink"} <= set(found)
