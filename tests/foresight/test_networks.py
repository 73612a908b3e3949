"""Our own networks: the interpreter against hooks, layer collapse at 98.2%, and the specification's ResNet-20."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from experiments.models import ResNetConfig, abstract, build, named
from wormjax import foresight, scores
from wormjax.evaluation import connectivity

SPARSE = foresight.level(18)  # 98.2 % pruned


def tree_of(config, key=0, scale=1.0):
    """Return the parameters of a network by He's rule, and its function in evaluation mode without statistics."""
    view = build(config, jax.random.key(key))
    params = jax.jit(foresight.reinitialised)(view.params, jax.random.key(key))
    return params, lambda p, x: view.apply(p, view.state, x)[0]


SMALL = ResNetConfig(blocks=1, widths=(3, 4), shortcut="B", classes=3, scale_init=1.0)


def with_hooks(params, x, act, norm):
    """The small ResNet written by hand, its activations and normalisations being arguments."""

    def conv_norm(p, x, stride=1):
        kernel = p["conv"]["kernel"]
        pad = kernel.shape[0] // 2
        x = jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            ((pad, pad), (pad, pad)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return norm(x, p["norm"])

    stem, *blocks = (params["layers"][i] for i in sorted(params["layers"]))
    x = act(conv_norm(stem, x))
    for i, block in enumerate(blocks):
        y = act(conv_norm(block["convs"][0], x, 1 + (i > 0)))
        y = conv_norm(block["convs"][1], y)
        x = act(y + (conv_norm(block["shortcut"], x, 2) if i > 0 else x))
    return jnp.mean(x, axis=(1, 2)) @ params["head"]["kernel"]


def px_by_hooks(params, x, normalisation):
    """The specification's sketch of PX: gates recorded by a hook, used again by another, open in h."""

    def evaluated(x, p):
        p = {name: value[None, None, None] for name, value in p.items()}
        return (x - p["mean"]) / jnp.sqrt(p["var"] + 1e-5) * p["scale"] + p["bias"]

    def scaled(x, p):
        if normalisation == "identity":
            return x
        return x * (p["scale"] ** 2 / (p["var"] + 1e-5))[None, None, None]

    recorded = []
    kernels = lambda f: jax.tree.map(lambda w: f(w) if w.ndim > 1 else w, params)  # noqa: E731

    def recording(z):
        recorded.append(z > 0)
        return jnp.maximum(z, 0.0)

    with_hooks(params, x, recording, evaluated)
    gates = iter(recorded)
    gated = lambda z: z * next(gates).astype(z.dtype)  # noqa: E731
    g = with_hooks(kernels(jnp.ones_like), x**2, gated, lambda x, p: x)
    weights = jax.lax.stop_gradient(g.sum(axis=0))

    def total(squares):
        h = with_hooks(squares, jnp.ones_like(x[:1]), lambda z: z, scaled)
        return jnp.vdot(weights, h[0])

    squares = kernels(jnp.square)
    slopes = jax.grad(total)(squares)
    return jax.tree.map(lambda s, t: s * t, slopes, squares)


@pytest.mark.parametrize(
    "normalisation", [pytest.param("identity", marks=pytest.mark.slow), "running"]
)
def test_hooks_and_the_interpreter_give_the_same_scores(normalisation):
    view = abstract(SMALL)
    rng = np.random.default_rng(0)

    def trained(path, x):
        name = jax.tree_util.keystr(path)
        values = rng.uniform(0.5, 2.0, x.shape) if "var" in name else rng.normal(size=x.shape)
        return values.astype(x.dtype)

    params = jax.tree_util.tree_map_with_path(trained, view.params)
    stats = jax.tree_util.tree_map_with_path(trained, view.state)
    x = jnp.asarray(rng.normal(size=(3, 4, 4, 3)), jnp.float32)

    @jax.jit
    def both(params, stats, x):
        apply = lambda p, x: view.apply(p, stats, x)[0]  # noqa: E731
        with_stats = _joined(params, stats)
        return (
            scores.px(params, [x], apply=apply, normalisation=normalisation),
            px_by_hooks(with_stats, x, normalisation),
        )

    found, expected = both(params, stats, x)
    flat = dict(_named(expected))
    checked = 0
    for name, score in _named(found):
        if score.ndim:
            np.testing.assert_allclose(score, flat[name], rtol=2e-4, err_msg=name)
            checked += 1
    assert checked == 7


def _joined(params, stats):
    """Put running statistics beside the scales that they belong to."""
    if not isinstance(params, dict):
        return params
    own = {
        k: _joined(v, stats.get(k, {}) if isinstance(stats, dict) else {})
        for k, v in params.items()
    }
    extra = {k: v for k, v in stats.items() if k not in params} if isinstance(stats, dict) else {}
    return own | extra


def _named(tree):
    return [(jax.tree_util.keystr(p), x) for p, x in jax.tree_util.tree_leaves_with_path(tree)]


@pytest.mark.parametrize("mode", ["ref_head", pytest.param("paper", marks=pytest.mark.slow)])
def test_renamed_modules_have_the_same_scores(mode):  # defect 3: a filter by the letters "bn"
    rng = np.random.default_rng(0)
    w = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in (("a", (4, 5)), ("b", (5, 3)))}
    scale, shift = jnp.asarray([1.5, 0.5, 2.0, 1.0, -1.0]), jnp.full(5, 0.3)
    bias = jnp.asarray([0.1, -0.2, 0.3])
    x = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)

    def scored(first, norm, last):
        params = {
            first: {"kernel": w["a"]},
            norm: {"scale": scale, "bias": shift},
            last: {"kernel": w["b"], "bias": bias},
        }

        def apply(p, x):
            x = x @ p[first]["kernel"]
            x = (x - jnp.mean(x, axis=0)[None]) * jax.lax.rsqrt(jnp.var(x, axis=0) + 1e-5)[None]
            x = x * p[norm]["scale"][None] + p[norm]["bias"][None]
            return jax.nn.relu(x) @ p[last]["kernel"] + p[last]["bias"][None]

        tree = jax.jit(functools.partial(scores.px, apply=apply, mode=mode))(params, [x])
        return tree[first]["kernel"], tree[last]["kernel"]

    named_bn, renamed = scored("conv1", "bn1", "fc"), scored("stem", "shortcut.1", "head")
    for a, b in zip(named_bn, renamed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_scores_of_px_are_not_negative_and_every_layer_has_the_same_sum():  # defect 4
    rng = np.random.default_rng(2)
    params = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((4, 6), (6, 6), (6, 3))]
    masks = [jnp.asarray(rng.random(p.shape) < 0.7) for p in params]
    x = jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)

    tree = jax.jit(lambda p: scores.px(p, [x], apply=plain, masks=masks))(params)
    sums = [float(s.sum()) for s in tree]
    np.testing.assert_allclose(sums, sums[0], rtol=1e-5)
    for score, mask in zip(tree, masks, strict=True):
        assert (score >= 0).all()
        assert (score[~mask] == 0).all()


def collapse(params, apply, method_of, image, rounds=100):
    x = np.random.default_rng(1).normal(size=(2, *image)).astype(np.float32)
    pruned = foresight.prune(method_of(apply), params, [(x, None)], density=SPARSE, rounds=rounds)
    total = sum(pruned.sizes)
    assert pruned.kept[-1].sum() == total - int((1 - SPARSE) * total)
    return connectivity(apply, params, x, masks=pruned.masks), pruned


def plain(params, x):
    *inner, last = params
    for w in inner:
        x = jax.nn.relu(x @ w)
    return x @ last


def test_a_small_plain_network_keeps_all_its_layers():
    rng = np.random.default_rng(0)
    params = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((16, 48), (48, 48), (48, 4))]
    found, _ = collapse(params, plain, foresight.methods.px, (16,), rounds=30)
    assert not found.collapsed
    assert found.emptied == []


@pytest.mark.slow
@pytest.mark.parametrize("method", [foresight.methods.px, foresight.methods.synflow])
def test_vgg16_does_not_collapse(method):
    config = dataclasses.replace(named("vgg16"), classes=100, scale_init=1.0)
    found, pruned = collapse(*tree_of(config), method, (32, 32, 3))
    assert pruned.kept[-1].sum() in (264_815, 265_923)  # without and with biases' pooling head
    assert not found.collapsed
    assert found.emptied == []


STAGE_3 = [f"layers/{b}/convs/{c}/conv/kernel" for b in (7, 8, 9) for c in (0, 1)]


def iou(a, b):
    return float(wj.jaccard(a.masks, b.masks).total)


@pytest.mark.slow
def test_resnet20_empties_its_last_branches_and_lives():  # specs, foresight 6.5
    config = dataclasses.replace(named("resnet20"), shortcut="B", scale_init=1.0)
    params, apply = tree_of(config)
    x = jax.random.normal(jax.random.key(1), (24, 32, 32, 3))
    found = {}
    for name, method in (
        ("px", foresight.methods.px(apply)),
        ("raw", foresight.methods.px(apply, head="raw")),
        ("l2", foresight.methods.synflow_l2(apply)),
    ):
        pruned = foresight.prune(method, params, [(x, None)], density=SPARSE, rounds=100)
        assert pruned.kept[:, :].sum(axis=1)[[0, 1, 49, 99]].tolist() == [
            260231,
            249986,
            36360,
            4881,
        ]
        paths = connectivity(apply, params, x, masks=pruned.masks)
        assert not paths.collapsed
        assert paths.emptied == STAGE_3
        found[name] = pruned
    assert iou(found["px"], found["l2"]) == pytest.approx(0.961, abs=0.03)
    assert iou(found["raw"], found["l2"]) == pytest.approx(0.726, abs=0.06)
    assert iou(found["px"], found["raw"]) == pytest.approx(0.735, abs=0.06)
