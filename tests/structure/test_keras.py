"""Keras networks, through their adapter: the groups found, and shrunk equals masked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo._case import draws, images, tokens

import wormjax as wj
from wormjax.adapters import from_keras
from wormjax.structure import find_groups, plan, shrink


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def applications(keras, monkeypatch):
    """`keras.applications` without the minute in which JAX compiles a random number generator for each shape."""

    def quick(self, shape, dtype=None):
        return np.zeros(shape, np.float32)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", quick)
    return keras.applications


def check_shrunk(model, x, groups):
    """Halve a model by magnitude; its output must be the masked one's."""
    view = from_keras(model)
    params, state = draws(view.params), draws(view.state, seed=1)
    found = find_groups(view.apply, params, x, state=state)
    assert len(found) == groups, found.explain()
    assert not found.traced.diagnostics

    planned = plan(found, wj.scores.magnitude(params), keep=0.5, normalise="mean")
    ticket = shrink(planned, params, state)
    assert sum(leaf.size for leaf in jax.tree.leaves(ticket.params)) == planned.parameters[1]
    assert planned.parameters[1] < 0.6 * planned.parameters[0]
    want, _ = jax.jit(view.apply)(wj.apply_masks(params, planned.masks), state, x)
    got, _ = jax.jit(ticket.apply)(ticket.params, ticket.state, x)
    assert float(jnp.std(want)) > 1e-2 * float(jnp.abs(want).max())
    np.testing.assert_allclose(got, want, atol=1e-5 * float(jnp.abs(want).max()), rtol=0)


@pytest.mark.slow
def test_mobilenet_v2(applications):
    model = applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, classes=5, classifier_activation=None
    )
    # stem, an expansion in 16 of 17 blocks, a stream for each of 7 widths, head
    check_shrunk(model, images(32), 1 + 16 + 7 + 1)


@pytest.mark.slow
def test_resnet50(applications):
    model = applications.ResNet50(
        input_shape=(32, 32, 3), weights=None, classes=5, classifier_activation=None
    )
    # stem, two inside each of 16 blocks, a stream for each of 4 stages
    check_shrunk(model, images(32), 1 + 2 * 16 + 4)


def convolutional(keras):
    """Layers for images: separable and transposed convolutions, group norm, squeeze-excite."""
    layers = keras.layers
    x = start = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(4, 3, strides=2, padding="same", activation="swish")(x)
    gate = layers.Dense(3, activation="gelu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = x * layers.Dense(4, activation="sigmoid")(gate)
    x = layers.GroupNormalization(2)(layers.Conv2DTranspose(8, 2, strides=2)(x))
    x = layers.Flatten()(layers.MaxPooling2D()(x))
    return keras.Model(start, layers.Dense(5)(x)), images(8)


def sequential(keras):
    """Layers for tokens: embedding, attention, layer norm, LSTM."""
    layers = keras.layers
    ids = keras.Input((6,), dtype="int32")
    x = layers.Embedding(11, 8)(ids)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    x = layers.LSTM(7)(layers.Dropout(0.3)(x))
    return keras.Model(ids, layers.Dense(5)(x)), tokens()


# convolution, pointwise, gate, norm groups and units within; stream, heads, query-key, value, cell
SMALL = {convolutional: 5, sequential: 5}


@pytest.mark.parametrize(
    "make",
    [sequential, pytest.param(convolutional, marks=pytest.mark.slow)],
    ids=lambda make: make.__name__,
)
def test_small_networks_pruned_at_random(make, keras, check_function):
    model, x = make(keras)
    view = from_keras(model)
    params, state = draws(view.params), draws(view.state, seed=1)
    checked = check_function(view.apply, params, x, state=state, tolerance=3e-5)
    assert checked.free == SMALL[make]
    assert not checked.traced.diagnostics
