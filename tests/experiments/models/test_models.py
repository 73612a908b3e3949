"""What all models share: building, naming, counts, forward shapes, dtypes."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.models import (
    NAMED,
    ConvNetConfig,
    LeNetConfig,
    MLPConfig,
    MobileNetConfig,
    PreResNet,
    PreResNetConfig,
    ResNetConfig,
    VGGConfig,
    abstract,
    build,
    named,
)
from experiments.models._initial import he_normal
from wormjax._paths import path_name
from wormjax.adapters import from_nnx
from wormjax.evaluation._walk import total

TINY = {
    "vgg": VGGConfig(widths=(4, "M", 6), channels=1),
    "resnet": ResNetConfig(blocks=1, widths=(4, 6), channels=1),
    "mlp": MLPConfig(widths=(6, 5), inputs=64, batch_norm=True),
}
MORE = {
    "bottleneck": ResNetConfig(
        blocks=(1, 1),
        widths=(4, 8),
        shortcut="B",
        block="bottleneck",
        stem="7x7",
        stem_width=3,
        inner_widths=(2, 1, 3, 2),
        channels=1,
    ),
    "preresnet": PreResNetConfig(blocks=1, widths=(4, 8), stem_width=3, channels=1),
    "wide": PreResNetConfig(
        blocks=1, widths=(3, 6), block="basic", shortcut="activation", stem_width=2, channels=1
    ),
    "mobilenet": MobileNetConfig(widths=(4, 5, 6), strides=(1, 2, 1), channels=1),
    "lenet": LeNetConfig(widths=(3, 4), hidden=(5,), side=16, batch_norm=True),
    "convnet": ConvNetConfig(widths=(3, "M", 4), channels=1),
}


def images(batch=4, size=8, channels=1, seed=0):
    draws = np.random.default_rng(seed).normal(size=(batch, size, size, channels))
    return jnp.asarray(draws, jnp.float32)


def leaves(tree):
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def norm_scales(params):
    return {name: leaf for name, leaf in leaves(params).items() if name.endswith("norm/scale")}


@pytest.mark.parametrize("name", TINY)
def test_forward_shapes_and_dtypes(name):
    view = build(dataclasses.replace(TINY[name], classes=7), jax.random.key(0))
    apply = jax.jit(view.apply, static_argnames="train")
    for train in (True, False):
        logits, state = apply(view.params, view.state, images(), train=train)
        assert logits.shape == (4, 7)
        assert logits.dtype == jnp.float32
        assert jax.tree.structure(state) == jax.tree.structure(view.state)
        changed = [
            bool(jnp.any(a != b))
            for a, b in zip(*map(jax.tree.leaves, (state, view.state)), strict=True)
        ]
        assert changed == [train] * len(changed)


@pytest.mark.parametrize("name", TINY)
def test_bfloat16_computes_low_and_stores_float32(name):
    full = build(TINY[name], jax.random.key(0))
    half = build(dataclasses.replace(TINY[name], dtype="bfloat16"), jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, half.params, full.params)
    dtypes = []

    def count(eqn):
        if eqn.primitive.name in ("conv_general_dilated", "dot_general"):
            dtypes.append(eqn.outvars[0].aval.dtype)
        return

    def forward(p, s, x):
        return half.apply(p, s, x, train=True)

    total(jax.make_jaxpr(forward)(half.params, half.state, images()), count)
    assert dtypes == [jnp.bfloat16] * (len(dtypes) - 1) + [jnp.float32]
    logits, state = jax.jit(forward)(half.params, half.state, images())
    assert {leaf.dtype for leaf in jax.tree.leaves((logits, state, half.params))} == {
        jnp.dtype("float32")
    }
    exact, _ = jax.jit(full.apply, static_argnames="train")(*full[1:], images(), train=True)
    np.testing.assert_allclose(logits, exact, atol=0.03 * float(jnp.abs(exact).max()))
    loss = jax.grad(lambda p: jnp.sum(forward(p, half.state, images())[0] ** 2))
    grads = jax.eval_shape(loss, half.params)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", MORE)
def test_what_bfloat16_computes_in_other_models(name):
    """As above, by tracing alone: all but the classifier is low, BatchNorm and logits are float32."""
    config = dataclasses.replace(MORE[name], dtype="bfloat16")
    view = abstract(config)
    dtypes = {"conv_general_dilated": [], "dot_general": [], "rsqrt": []}

    def count(eqn):
        if eqn.primitive.name in dtypes:
            dtypes[eqn.primitive.name].append(eqn.outvars[0].aval.dtype)
        return

    x = jax.ShapeDtypeStruct((2, 16, 16, 1), jnp.float32)

    def forward(p, s, x):
        return view.apply(p, s, x, train=True)

    total(jax.make_jaxpr(forward)(view.params, view.state, x), count)
    assert set(dtypes["conv_general_dilated"]) == {jnp.dtype("bfloat16")}
    hidden = len(config.hidden) if name == "lenet" else 0
    assert dtypes["dot_general"] == [jnp.bfloat16] * hidden + [jnp.float32]
    assert set(dtypes["rsqrt"]) == ({jnp.dtype("float32")} if config.norm_channels else set())
    logits, state = jax.eval_shape(forward, view.params, view.state, x)
    assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} <= {jnp.dtype("float32")}
    assert jax.tree.structure(state) == jax.tree.structure(view.state)


def test_weights_are_a_function_of_the_key():
    config = TINY["vgg"]
    one, same, other = (build(config, jax.random.key(seed)).params for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert not np.array_equal(one["head"]["kernel"], other["head"]["kernel"])
    kernels = [leaf.ravel()[:9] for name, leaf in leaves(one).items() if name.endswith("kernel")]
    assert len({tuple(kernel.tolist()) for kernel in kernels}) == len(kernels) == 3


def test_build_maps_over_seeds():
    keys = jax.random.split(jax.random.key(0), 3)
    config = TINY["mlp"]
    params, state = jax.vmap(lambda key: build(config, key)[1:])(keys)
    apply = build(config, keys[0]).apply
    logits, _ = jax.jit(jax.vmap(apply, in_axes=(0, 0, None)))(params, state, images())
    for seed, key in enumerate(keys):
        view = build(config, key)
        jax.tree.map(
            lambda many, one, seed=seed: np.testing.assert_allclose(many[seed], one, rtol=1e-6),
            params,
            view.params,
        )
        alone, _ = view.apply(view.params, view.state, images())
        np.testing.assert_allclose(logits[seed], alone, rtol=1e-4, atol=1e-6)


def test_equal_configurations_share_their_apply():
    first = build(TINY["mlp"], jax.random.key(0)).apply
    again = build(dataclasses.replace(TINY["mlp"]), jax.random.key(1)).apply
    assert first is again


def test_initial_values_are_the_papers():
    view = build(VGGConfig(widths=(64, 64), scale_init=0.25, classes=100), jax.random.key(0))
    for name, leaf in leaves(view.params).items():
        if name.endswith("conv/kernel"):
            assert float(jnp.std(leaf)) == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.06)
            assert abs(float(jnp.mean(leaf))) < 0.006
        elif name == "head/kernel":
            assert float(jnp.std(leaf)) == pytest.approx(0.01, rel=0.05)
        else:
            expected = 0.25 if name.endswith("scale") else 0.0
            np.testing.assert_array_equal(leaf, np.full(leaf.shape, expected, np.float32))


def test_weights_are_those_of_flax_s_own_streams():
    ours = build(MORE["preresnet"], jax.random.key(3)).params
    make = jax.jit(
        lambda: (
            from_nnx(PreResNet(MORE["preresnet"], rngs=nnx.Rngs(params=jax.random.key(3)))).params
        )
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), ours, make())


def test_drawing_flat_gives_flax_s_values():
    for fan, shape in (("out", (3, 3, 5, 7)), ("in", (50, 40))):
        oracle = jax.nn.initializers.variance_scaling(2.0, f"fan_{fan}", "normal")
        ours, theirs = (init(jax.random.key(3), shape) for init in (he_normal(fan), oracle))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMED if name.startswith("digits")])
def test_digits_models_never_convolve_a_2x2_map(name):
    view = abstract(named(name))
    sizes = []

    def count(eqn):
        if eqn.primitive.name == "conv_general_dilated":
            sizes.extend(eqn.outvars[0].aval.shape[1:3])
        return

    x = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    total(jax.make_jaxpr(lambda *a: view.apply(*a)[0])(view.params, view.state, x), count)
    assert all(size >= 4 for size in sizes)
    assert bool(sizes) == (name != "digits_mlp")


def test_flatten_order_is_order_of_definition():
    names = list(norm_scales(abstract(named("vgg16")).params))
    assert names == [f"layers/{i}/norm/scale" for i in range(13)]
    names = list(norm_scales(abstract(ResNetConfig(blocks=1, shortcut="B")).params))
    assert names == [
        "layers/0/norm/scale",
        "layers/1/convs/0/norm/scale",
        "layers/1/convs/1/norm/scale",
        "layers/2/convs/0/norm/scale",
        "layers/2/convs/1/norm/scale",
        "layers/2/shortcut/norm/scale",
        "layers/3/convs/0/norm/scale",
        "layers/3/convs/1/norm/scale",
        "layers/3/shortcut/norm/scale",
    ]
    names = list(norm_scales(abstract(MORE["bottleneck"]).params))
    assert names == [
        "layers/0/norm/scale",
        *(
            f"layers/{i}/{part}/norm/scale"
            for i in (1, 2)
            for part in ("convs/0", "convs/1", "convs/2", "shortcut")
        ),
    ]
    names = list(norm_scales(abstract(MORE["mobilenet"]).params))
    assert names == [
        "layers/0/norm/scale",
        "layers/1/depthwise/norm/scale",
        "layers/1/pointwise/norm/scale",
        "layers/2/depthwise/norm/scale",
        "layers/2/pointwise/norm/scale",
    ]
    # the tenth block after the second, and the last norm last, though "head" and "layers" sort before it
    config = PreResNetConfig(blocks=(11,), widths=(4,), block="basic", stem_width=None)
    names = list(norm_scales(abstract(config).params))
    blocks = [f"layers/{i}/convs/{j}/norm/scale" for i in range(1, 12) for j in (0, 1)]
    assert names == [*blocks, "norm/scale"]


@pytest.mark.parametrize("name", TINY | MORE)
def test_a_configuration_survives_json(name):
    config = (TINY | MORE)[name]
    assert type(config)(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_names():
    assert named("resnet56").depth == 56
    assert named("resnet110", classes=100) == ResNetConfig(blocks=18, classes=100)
    with pytest.raises(
        ValueError, match=r"no model named 'resnet21'; there are convnet, digits, .*wrn32_2"
    ):
        named("resnet21")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VGGConfig(widths=(16, "P")), "widths holds 'P', which is not a positive number"),
        (lambda: VGGConfig(widths=("M",)), "widths names no layer"),
        (lambda: VGGConfig(widths=(4,), classes=0), "classes=0 must be at least 1"),
        (lambda: VGGConfig(widths=(4,), dtype="float16"), "dtype='float16' is none of"),
        (lambda: MLPConfig(widths=(4,), scale_init=0.0), "scale_init=0.0 must be positive"),
        (lambda: MLPConfig(widths=(4,), inputs=0), "inputs=0 must be at least 1"),
        (lambda: MLPConfig(widths=(4, 0)), "widths holds 0"),
        (lambda: ResNetConfig(blocks=0), "blocks=0 must be at least 1"),
        (lambda: ResNetConfig(blocks=1, shortcut="C"), "shortcut='C' is neither"),
        (lambda: ResNetConfig(blocks=1, widths=(8, 4)), "use shortcut='B'"),
        (lambda: ResNetConfig(blocks=1, stem_width=32), r"widths=\(32, 16, 32, 64\) decrease"),
        (lambda: ResNetConfig(blocks=(1, 2)), r"blocks=\(1, 2\) names 2 stages and widths=.* 3"),
        (lambda: ResNetConfig(blocks=(1, 0, 1)), r"blocks=\(1, 0, 1\) must be at least 1"),
        (lambda: ResNetConfig(blocks=1, stem="5x5"), "stem='5x5' is neither"),
        (lambda: ResNetConfig(blocks=1, stem_width=0), "stem_width holds 0"),
        (lambda: PreResNetConfig(blocks=1, block="wide"), "block='wide' is neither 'basic' nor"),
        (lambda: PreResNetConfig(blocks=1, shortcut="A"), "shortcut='A' is neither 'input' nor"),
        (lambda: PreResNetConfig(blocks=1, widths=(6, 8, 8)), "multiples of 4.*give inner_widths"),
        (
            lambda: PreResNetConfig(blocks=1, inner_widths=(2, 2)),
            "inner_widths holds 2 widths, and 3 blocks of kind 'bottleneck' take 6",
        ),
        (lambda: MobileNetConfig(widths=(4, 5), strides=(1,)), "1 strides for 2 widths"),
        (lambda: MobileNetConfig(widths=(4,), strides=(0,)), "strides holds 0"),
        (lambda: LeNetConfig(side=8), "images of side=8 are too small for 2 times a 5x5"),
        (lambda: LeNetConfig(hidden=()), "hidden names no layer"),
        (lambda: ConvNetConfig(widths=("M",)), "widths names no layer"),
    ],
)
def test_a_wrong_configuration_is_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_refuses_another_configuration():
    with pytest.raises(TypeError, match="build got a str; it takes one of VGGConfig, ResNetConfig"):
        build("vgg16", jax.random.key(0))


def test_refuses_images_of_a_wrong_size():
    view = abstract(VGGConfig(widths=(2, "M", 2, "M", 2), channels=1))
    with pytest.raises(ValueError, match="map of 1x1 is too small for a 2x2 pooling"):
        jax.eval_shape(view.apply, view.params, view.state, images(size=2))
    view = abstract(TINY["mlp"])
    with pytest.raises(ValueError, match=r"shape \(9, 9, 1\) have 81 numbers, and this MLP takes"):
        jax.eval_shape(view.apply, view.params, view.state, images(size=9))
    view = abstract(MORE["lenet"])
    with pytest.raises(ValueError, match="images of 9x9, and this LeNet takes 16x16: set side"):
        jax.eval_shape(view.apply, view.params, view.state, images(size=9))
    view = abstract(MORE["convnet"])
    with pytest.raises(ValueError, match="map of 2x2 is too small for a 3x3 convolution without"):
        jax.eval_shape(view.apply, view.params, view.state, images(size=6))
