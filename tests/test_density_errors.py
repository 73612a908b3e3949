"""A density that is no density, or not where one goes, gets a sentence with its remedy."""

import jax.numpy as jnp
import pytest

import wormjax as wj


@pytest.mark.parametrize("given", [0.1, "magnitude"])
def test_one_shot_tells_where_the_density_goes(given):
    with pytest.raises(TypeError, match=r"scores is .* wormjax.one_shot\(params, density=0.1\)"):
        wj.one_shot({"kernel": jnp.ones((2, 2))}, given)


def test_a_percentage_is_told_how_to_write_it():
    with pytest.raises(ValueError, match=r"got '10%'\. Write a share as a fraction of one: 0\.1"):
        wj.one_shot({"kernel": jnp.ones((2, 2))}, density="10%")
