"""Sequence networks in Flax Linen."""

import functools

import jax.numpy as jnp
from flax import linen as nn

from zoo._case import case, tokens
from zoo._linen_images import from_linen


class BertLayer(nn.Module):
    width: int = 8
    heads: int = 2

    @nn.compact
    def __call__(self, x, mask):
        dense = functools.partial(nn.DenseGeneral, features=(self.heads, self.width // self.heads))
        query, key, value = (dense(name=n)(x) for n in ("query", "key", "value"))
        y = nn.dot_product_attention(query, key, value, mask=mask, deterministic=True)
        y = nn.DenseGeneral(self.width, axis=(-2, -1), name="out")(y)
        x = nn.LayerNorm(name="attention_norm")(x + y)
        y = nn.gelu(nn.Dense(11, name="up")(x), approximate=False)
        return nn.LayerNorm(name="norm")(x + nn.Dense(self.width, name="down")(y))


class Bert(nn.Module):
    layers: int = 2

    @nn.compact
    def __call__(self, ids):
        positions = jnp.arange(ids.shape[1])[None]
        x = nn.Embed(11, 8, name="word")(ids) + nn.Embed(6, 8, name="position")(positions)
        x = nn.LayerNorm()(x + nn.Embed(2, 8, name="segment")(jnp.zeros_like(ids)))
        mask = nn.make_attention_mask(ids > 0, ids > 0)
        for k in range(self.layers):
            x = BertLayer(name=f"layer{k}")(x, mask)
        return nn.Dense(3, name="classifier")(nn.tanh(nn.Dense(8, name="pooler")(x[:, 0])))


@case
def bert():
    """Post-norm encoder layers, masked attention, three embeddings, pooler."""
    # the stream, the pooler, and for each of two layers heads, query-key, value and hidden widths
    return from_linen(Bert(), tokens(), 2 + 2 * 4)


class GatedRecurrent(nn.Module):
    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(11, 6)(ids)
        x = nn.RNN(nn.GRUCell(7))(x)
        return nn.Dense(5)(x[:, -1])


@case
def gru():
    """A scanned cell behind an embedding."""
    return from_linen(GatedRecurrent(), tokens(), 2)
