"""Language models in plain JAX: dicts of arrays, layers stacked and scanned."""

import jax
import jax.numpy as jnp

from zoo._case import Example, case, draws, tokens

WIDTH, LAYERS, VOCABULARY = 8, 3, 11


def shaped(**shapes):
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


def layer_norm(x, scale, bias):
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + bias


def attend(query, key, value):
    """Causal softmax attention of ``(batch, length, heads, width)`` arrays."""
    logits = jnp.einsum("bthd,bshd->bhts", query, key) / jnp.sqrt(jnp.float32(query.shape[-1]))
    length = query.shape[1]
    causal = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(causal, logits, -1e9), axis=-1)
    return jnp.einsum("bhts,bshd->bthd", weights, value)


@case
def gpt():
    """Scanned layers under remat, one merged query-key-value projection, tied unembedding."""
    heads, hidden = 2, 12
    params = {
        "embed": shaped(token=(VOCABULARY, WIDTH), position=(6, WIDTH)),
        "layers": shaped(
            norm1=(LAYERS, WIDTH),
            shift1=(LAYERS, WIDTH),
            qkv=(LAYERS, WIDTH, 3 * WIDTH),
            out=(LAYERS, WIDTH, WIDTH),
            norm2=(LAYERS, WIDTH),
            shift2=(LAYERS, WIDTH),
            up=(LAYERS, WIDTH, hidden),
            up_bias=(LAYERS, hidden),
            down=(LAYERS, hidden, WIDTH),
        ),
        "norm": shaped(scale=(WIDTH,), shift=(WIDTH,)),
    }

    def apply(params, ids):
        x = params["embed"]["token"][ids] + params["embed"]["position"][: ids.shape[1]]

        @jax.checkpoint
        def layer(x, p):
            y = layer_norm(x, p["norm1"], p["shift1"])
            batch, length, _ = y.shape
            query, key, value = jnp.split(y @ p["qkv"], 3, axis=-1)
            cut = lambda z: z.reshape(batch, length, heads, -1)  # noqa: E731
            y = attend(cut(query), cut(key), cut(value)).reshape(batch, length, -1)
            x = x + y @ p["out"]
            y = layer_norm(x, p["norm2"], p["shift2"])
            return x + jax.nn.gelu(y @ p["up"] + p["up_bias"]) @ p["down"], None

        x, _ = jax.lax.scan(layer, x, params["layers"])
        x = layer_norm(x, params["norm"]["scale"], params["norm"]["shift"])
        return x @ params["embed"]["token"].T

    # the stream, heads, query-key width, value width, hidden width: the same in all layers
    return Example(apply, draws(params), None, (tokens(),), 5)


@case
def llama():
    """RMSNorm, rotary positions, grouped-query attention, SwiGLU; layers in a list."""
    heads, groups, size, hidden = 4, 2, 6, 10
    layer = shaped(
        norm1=(WIDTH,),
        query=(WIDTH, heads * size),
        key=(WIDTH, groups * size),
        value=(WIDTH, groups * size),
        out=(heads * size, WIDTH),
        norm2=(WIDTH,),
        gate=(WIDTH, hidden),
        up=(WIDTH, hidden),
        down=(hidden, WIDTH),
    )
    params = {
        "embed": shaped(token=(VOCABULARY, WIDTH)),
        "layers": [layer, layer],
        "head": shaped(norm=(WIDTH,), kernel=(WIDTH, VOCABULARY)),
    }

    def rms_norm(x, scale):
        return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6) * scale

    def rotate(x):
        """Turn pairs of the two halves of a head by angles that grow with the position."""
        half = x.shape[-1] // 2
        angles = jnp.arange(x.shape[1])[:, None] / 100.0 ** (jnp.arange(half) / half)
        cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
        a, b = x[..., :half], x[..., half:]
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def apply(params, ids):
        x = params["embed"]["token"][ids]
        batch, length = ids.shape
        for p in params["layers"]:
            y = rms_norm(x, p["norm1"])
            query = rotate((y @ p["query"]).reshape(batch, length, heads, -1))
            key = rotate((y @ p["key"]).reshape(batch, length, groups, -1))
            value = (y @ p["value"]).reshape(batch, length, groups, -1)
            key, value = (jnp.repeat(z, heads // groups, axis=2) for z in (key, value))
            x = x + attend(query, key, value).reshape(batch, length, -1) @ p["out"]
            y = rms_norm(x, p["norm2"])
            x = x + (jax.nn.silu(y @ p["gate"]) * (y @ p["up"])) @ p["down"]
        return rms_norm(x, params["head"]["norm"]) @ params["head"]["kernel"]

    # the stream; for each of two layers key-value groups, queries in a group, rotary pairs, value and hidden width
    return Example(apply, draws(params), None, (tokens(),), 1 + 2 * 5)
