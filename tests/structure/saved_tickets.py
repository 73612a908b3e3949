"""A network with a state, its ticket, and how it is saved and loaded: what the tests of saved tickets share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import wormjax as wj
from wormjax.structure import find_groups, load_ticket, plan, shrink

# another process has its own copy of the definition
DEFINITION = """
import jax, jax.numpy as jnp, numpy as np, optax

def apply(params, state, x):
    h = jnp.tanh(x @ params["a"]["w"] + params["a"]["b"] - state["mean"])
    h = jnp.tanh(h @ params["b"])
    return h @ params["c"], {"mean": 0.9 * state["mean"] + 0.1 * params["a"]["b"], "key": state["key"]}

def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)

def params():
    return {"a": {"w": normal(0, 5, 8), "b": normal(1, 1, 8)}, "b": normal(2, 8, 6), "c": normal(3, 6, 3)}

def state():
    return {"mean": normal(4, 1, 8), "key": jax.random.key(7)}

tx = optax.chain(optax.adam(0.1, mu_dtype=jnp.bfloat16), optax.add_noise(0.1, 0.1, 0))
x = normal(5, 7, 5)
"""
# one that closes over a table, a number, and statistics inside an inner function
FROZEN = """
import jax, jax.numpy as jnp, numpy as np

def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)

def closing_over(table, mean, std, heat):
    normalise = jax.jit(lambda h: (h - mean) / std)

    def frozen(params, tokens):
        # built for the input's shape: no two lengths have it in common
        earlier = np.tril(np.ones((tokens.shape[0], tokens.shape[0]), np.float32))
        h = earlier @ (table[tokens] * heat)
        return jnp.tanh(normalise(h @ params["a"])) @ params["b"]

    return frozen

params = {"a": normal(0, 6, 8), "b": normal(1, 8, 3)}
tokens = jnp.arange(4) % 3
values = normal(2, 9, 6), np.asarray(normal(3, 1, 8)), normal(4, 1, 8) + 3, jnp.asarray(1.7)
blanks = jnp.zeros((9, 6)), np.zeros((1, 8), np.float32), jnp.zeros((1, 8)), jnp.asarray(0.0)
"""
net: dict = {}
exec(DEFINITION, net)
APPLY, X, TX = net["apply"], net["x"], net["tx"]
SHAPES, STATE_SHAPES = jax.eval_shape(lambda: (net["params"](), net["state"]()))


def raw(x):
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def assert_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert raw(x).tobytes() == raw(y).tobytes()


def trees(ticket):
    return ticket.params, ticket.state, ticket.opt_state, ticket.like_params


def normal_like(x):
    return net["normal"](9, *x.shape).astype(x.dtype)


@functools.cache
def made_ticket():
    params, state = net["params"](), net["state"]()
    groups = find_groups(APPLY, params, X, state=state)
    planned = plan(groups, wj.scores.magnitude(params), keep=0.5)
    opt_state = jax.tree.map(
        lambda x: normal_like(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, TX.init(params)
    )
    halves = jax.tree.map(lambda p: (p / 3).astype(jnp.bfloat16), params)
    made = shrink(planned, params, state, opt_state=opt_state, tx=TX, like_params=(params, halves))
    assert made.params["b"].size < params["b"].size
    return made


def load(path, **changes):
    given = {"apply": APPLY, "params_like": SHAPES, "state_like": STATE_SHAPES, "tx": TX}
    return load_ticket(path, **given | changes)
