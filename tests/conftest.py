"""One configuration for every test: eight devices, strict dtypes, strict ranks, checked annotations."""

import gc
import os
import platform

import jax
import pytest
from jaxtyping import install_import_hook

from tests.annotations import modules_with_shapes

# read when the first array is made: most programs run once, and compiling them costs more than running them
QUICK_TO_COMPILE = [
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
]
# a later XLA does not know the next, and an unknown flag ends the process
if jax.__version_info__ < (0, 11):
    QUICK_TO_COMPILE.append("--xla_cpu_use_fusion_emitters=false")
    if platform.machine() == "x86_64":
        # these fuse a product and a sum here and not there: x == max(x) of the same x could be false
        QUICK_TO_COMPILE.append("--xla_cpu_max_isa=AVX")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *QUICK_TO_COMPILE]).strip()

# tests make many small programs and keep them: to look for garbage among them often is in vain, and nobody reads
# who called whom in their text
gc.set_threshold(100_000, 50, 100)
jax.config.update("jax_traceback_in_locations_limit", 0)

jax.config.update("jax_num_cpu_devices", 8)  # masks must agree on one device and on eight
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

install_import_hook(modules_with_shapes("wormjax"), "tests.annotations.checked")


@pytest.fixture(scope="session")
def keras(tmp_path_factory):
    """Keras on the JAX backend, which must be chosen before its first import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        return pytest.importorskip("keras", reason="Keras is an extra: pip install wormjax[keras]")


def pytest_collection_finish(session):
    gc.freeze()  # what was imported stays
