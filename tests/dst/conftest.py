"""What tests of sparse training share."""

import jax
import pytest


@pytest.fixture
def lenient():
    """What optax itself needs: its own arithmetic mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield
