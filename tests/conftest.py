"""One configuration for every test: eight devices, strict dtypes, strict ranks, checked annotations."""

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 8)  # masks must agree on one device and on eight
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

install_import_hook("wormjax", "beartype.beartype")


@pytest.fixture(scope="session")
def keras(tmp_path_factory):
    """Keras on the JAX backend, which must be chosen before its first import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        return pytest.importorskip("keras", reason="Keras is an extra: pip install wormjax[keras]")
