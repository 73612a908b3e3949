"""One configuration for every test: eight devices, strict dtypes, strict ranks, checked annotations."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 8)  # masks must agree on one device and on eight
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

install_import_hook("wormjax", "beartype.beartype")
