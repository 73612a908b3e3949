"""A step over several networks: one after another, and all at once."""

import jax
import jax.numpy as jnp


def alone_and_together(step, views, x):
    """Return what ``step(params, state, x)`` gives of the views: jitted one by one and stacked, and under vmap."""

    def stack(trees):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    jitted = jax.jit(step)
    alone = [jitted(view.params, view.state, x) for view in views]
    params, state = stack([v.params for v in views]), stack([v.state for v in views])
    return stack(alone), jax.jit(jax.vmap(step, in_axes=(0, 0, None)))(params, state, x)
