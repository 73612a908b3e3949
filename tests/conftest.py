"""One configuration for every test: eight devices, strict dtypes, strict ranks, checked annotations."""

import os

import jax
import pytest
from jaxtyping import install_import_hook

# read when the first array is made: most programs run once, and compiling them costs more than running them
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
)

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
