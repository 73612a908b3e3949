"""Which branches are found: by reading the architectures, never by our own count."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from zoo import CASES

from experiments.models import abstract, named
from wormjax import layers
from wormjax.adapters import from_linen, from_nnx

ZOO = {
    "resnet18": ["blocks/0", "blocks/1", "blocks/3", "blocks/5", "blocks/7"],
    "preresnet": ["blocks/1"],
    "resnet50": ["Bottleneck_1", "Bottleneck_3"],  # Linen; of six, four have a projection
    "vit": ["blocks/0/attention", "blocks/0/up", "blocks/1/attention", "blocks/1/up"],
    "llama": ["layers/0/out", "layers/0/down", "layers/1/out", "layers/1/down"],
    "bert": ["layer0/key", "layer0/up", "layer1/key", "layer1/up"],  # Linen, post-norm
    "mlp_mixer": [f"blocks/{k}/norm{j}" for k in (0, 1) for j in (1, 2)],  # Equinox
    "gpt": ["layers[0]", "layers[1]", "layers[2]"],
}


@pytest.fixture(autouse=True)
def as_users_write():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


example_of = functools.cache(lambda name: CASES[name]())


@functools.cache
def found(name, **settings):
    example = example_of(name)
    return layers.candidates(
        example.apply, example.params, *example.inputs, state=example.state, **settings
    )


SLOW = {"resnet18", "resnet50", "llama", "bert", "mlp_mixer"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in ZOO]
)
def test_branches_of_known_networks(name):
    assert found(name).names == ZOO[name]


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("vit", ["blocks/0", "blocks/1"]),
        pytest.param("llama", ["layers/0", "layers/1"], marks=pytest.mark.slow),
    ],
)
def test_whole_layers(name, whole):
    by_layer = found(name, level="layer")
    assert by_layer.names == whole
    parts = found(name)
    assert [c.parameters for c in by_layer] == [
        a.parameters + b.parameters
        for a, b in zip(parts.candidates[::2], parts.candidates[1::2], strict=True)
    ]


@pytest.mark.slow
def test_blocks_of_one_stage_are_layers_of_their_own():
    assert found("resnet18", level="layer").names == ZOO["resnet18"]


@pytest.mark.parametrize(
    ("name", "side", "count"),
    [
        pytest.param("resnet50", 64, 16 - 4, marks=pytest.mark.slow),
        pytest.param("preresnet20", 32, 6 - 3, marks=pytest.mark.slow),
        # shortcut A: a strided, padded stream is no identity
        pytest.param("digits_resnet", 8, 4 - 1, marks=pytest.mark.slow),
    ],
)
def test_published_networks_in_nnx(name, side, count):
    view = abstract(named(name))
    x = jax.ShapeDtypeStruct((1, side, side, named(name).channels), jnp.float32)
    assert len(layers.candidates(view.apply, view.params, x, state=view.state)) == count


def test_a_vgg_has_none_and_says_so():
    def apply(params, x):
        for stage in params:
            for kernel in stage:
                strides, padding = (1, 1), "SAME"
                x = jax.lax.conv_general_dilated(
                    x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
                x = jax.nn.relu(x)
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return x.mean((1, 2))

    kernel = lambda i, o: jax.ShapeDtypeStruct((3, 3, i, o), jnp.float32)  # noqa: E731
    params = [[kernel(3, 4), kernel(4, 4)], [kernel(4, 4), kernel(4, 4)]]
    with pytest.raises(ValueError, match=r"no residual branch that can be removed.*such as a VGG"):
        names(apply, params, jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "unet", "densenet", "lstm"])
def test_a_network_without_residual_branches_says_so(name):
    with pytest.raises(ValueError, match=r"no residual branch that can be removed.*such as a VGG"):
        found(name)


class LinenLayer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(x))
        return x + nn.Dense(8)(nn.gelu(nn.Dense(16)(x))), None


class LinenGPT(nn.Module):
    @nn.compact
    def __call__(self, ids):
        embed = nn.Embed(11, 8)
        stacked = nn.scan(
            nn.remat(LinenLayer),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
        )
        x, _ = stacked(name="layers")(embed(ids), None)
        return embed.attend(x)


class NNXLayer(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.down(nnx.gelu(self.up(x)))


class NNXGPT(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(11, 8, rngs=rngs)
        make = nnx.split_rngs(splits=3)(nnx.vmap(NNXLayer, in_axes=(0,), out_axes=0))
        self.layers = make(rngs)

    def __call__(self, ids):
        step = nnx.scan(lambda layer, x: layer(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        return self.embed.attend(step(self.layers, self.embed(ids)))


def test_steps_of_scanned_layers_in_linen_and_nnx():
    ids = jax.ShapeDtypeStruct((2, 5), jnp.int32)
    linen = jax.eval_shape(LinenGPT().init, jax.random.key(0), jnp.zeros((2, 5), jnp.int32))
    view = from_linen(LinenGPT(), linen)
    steps = layers.candidates(view.apply, view.params, ids, state=view.state)
    assert steps.names == ["layers[0]", "layers[1]", "layers[2]"]
    view = from_nnx(nnx.eval_shape(lambda: NNXGPT(nnx.Rngs(0))))
    again = layers.candidates(view.apply, view.params, ids, state=view.state)
    assert again.names == steps.names
    # two norms' vectors, four projections with biases, two dense layers
    assert again.candidates[0].parameters == 2 * 8 + 4 * (64 + 8) + (128 + 16) + (128 + 8)


W = jax.ShapeDtypeStruct((3, 3), jnp.float32)
X = jax.ShapeDtypeStruct((4, 3), jnp.float32)


def names(apply, params, *inputs, **settings):
    return layers.candidates(apply, params, *inputs, **settings).names


@pytest.mark.parametrize(
    "add",
    [lambda x, a, m: x + a + m, lambda x, a, m: x + (a + m), lambda x, a, m: (m + a) + x],
)
def test_parallel_attention_and_mlp_are_found_apart(add):
    def apply(p, x):
        y = jnp.sin(x)
        return jnp.sin(add(x, y @ p["attention"], jnp.tanh(y @ p["mlp"])))

    assert sorted(names(apply, {"attention": W, "mlp": W}, X)) == ["attention", "mlp"]


def test_calls_and_rematerialised_blocks_are_looked_into():
    @jax.jit
    def block(x, w):
        return x + jnp.tanh(x @ w)

    def apply(p, x):
        return jnp.sin(jax.checkpoint(block)(block(x, p["a"]), p["b"]))

    assert names(apply, {"a": W, "b": W}, X) == ["a", "b"]


def test_an_activation_or_a_bias_is_no_branch():
    def apply(p, x):
        y = jax.nn.gelu(x @ p["kernel"] + p["bias"][None])  # has a sum with its own ancestor inside
        return y + p["table"]

    params = {"kernel": W, "bias": jax.ShapeDtypeStruct((3,), jnp.float32), "table": X}
    with pytest.raises(ValueError, match=r"no residual branch"):
        names(apply, params, X)


def test_what_something_else_reads_is_no_branch():
    def apply(p, x):
        y = x @ p["a"]
        return jnp.sin(x + y) * y

    with pytest.raises(ValueError, match=r"no residual branch"):
        names(apply, {"a": W}, X)


def test_a_mixed_precision_stream_is_an_identity():
    def apply(p, x):
        y = jnp.tanh(x.astype(jnp.bfloat16) @ p["a"].astype(jnp.bfloat16))
        return jnp.sin(x + y.astype(jnp.float32))

    assert names(apply, {"a": W}, X) == ["a"]


@pytest.mark.slow
def test_training_mode_finds_the_same_blocks():
    view = abstract(named("digits_resnet"))
    x = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    modes = [functools.partial(view.apply, train=train) for train in (False, True)]
    first, second = (names(mode, view.params, x, state=view.state) for mode in modes)
    assert first == second == ["layers/1/convs", "layers/2/convs", "layers/4/convs"]


def test_scans_whose_steps_cannot_go_are_told():
    params = {"w": jax.ShapeDtypeStruct((3, 3, 3), jnp.float32), "a": W}

    def seen(p, x):
        def step(x, w):
            x = x + x @ w
            return x, x.sum()

        x, ys = jax.lax.scan(step, x, p["w"])
        return x + jnp.sin(x) @ p["a"], ys

    found = layers.candidates(seen, params, X)
    assert found.names == ["a"]
    assert "has a row for each step of the scan over 'w'" in found.explain()

    def recurrent(p, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, p["w"])[0]

    with pytest.raises(ValueError, match=r"something else than x \+ f\(x\) from step to step"):
        names(recurrent, params, X)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (
            lambda w: jnp.moveaxis(w, 1, 0),
            "layers that are stacked on axis 1.*stack them on axis 0",
        ),
        (lambda w: jnp.moveaxis(w.astype(jnp.bfloat16), 2, 0), "that are stacked on axis 2"),
        (lambda w: w.transpose(0, 2, 1), "in another form or shares it"),
    ],
)
def test_layers_that_are_not_stacked_on_the_first_axis_are_told(form, reason):
    def apply(p, x, branch):
        return jax.lax.scan(lambda x, w: (branch(x, w), None), x, form(p["w"]))[0]

    chain = functools.partial(apply, branch=lambda x, w: x + jnp.tanh(x @ w.astype(x.dtype)))
    params = {"w": jax.ShapeDtypeStruct((3, 3, 3), jnp.float32)}
    with pytest.raises(ValueError, match=f"The scan over 'w' reads .*{reason}"):
        names(chain, params, X)
    recurrent = functools.partial(apply, branch=lambda x, w: jnp.tanh(x @ w.astype(x.dtype)))
    with pytest.raises(ValueError, match="such as a VGG"):  # it has no branches to lose
        names(recurrent, params, X)


def test_explain_names_what_goes_and_what_stays():
    text = found("preresnet").explain()
    assert text.splitlines()[1].split() == ["blocks/1", "0", "2x8x8x6", "141", "14,976"]
    assert "stage 0: 1 more" in text
    assert "stage 1: 1 more" in text


def test_wrong_settings_are_sentences(chain):
    apply, params, x = chain
    with pytest.raises(ValueError, match=r"rule='all' is neither 'identity' nor 'sibling'"):
        layers.candidates(apply, params, x, rule="all")
    with pytest.raises(ValueError, match=r"level='block' is neither"):
        layers.candidates(apply, params, x, level="block")
    with pytest.raises(ValueError, match=r"must return the pair"):
        layers.candidates(lambda p, s, x: apply(p, x), params, x, state={"n": np.zeros(1)})
    with pytest.raises(KeyError, match=r"there is no candidate 'blocks/9'"):
        layers.candidates(apply, params, x)["blocks/9"]
