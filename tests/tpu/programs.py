"""The programs that must compile for a TPU: the public transformations and a sharded training step."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import wormjax as wj
from experiments.models import VGGConfig, abstract
from experiments.training import TrainState, make_step

SEEDS = 8


class Program(NamedTuple):
    """A function with abstract arguments.

    Attributes:
      name: what is printed.
      function: to be jitted.
      args: `jax.ShapeDtypeStruct` trees.
      local: whether its devices may exchange counts only, and no part of a leaf.
      conditionals: how many conditionals the compiled program holds, where that is promised.
      donate: arguments to donate.
    """

    name: str
    function: Callable
    args: tuple
    local: bool = True
    conditionals: int | None = None
    donate: tuple[int, ...] = ()


def programs(mesh: Mesh) -> Iterator[Program]:
    """Yield every program for a mesh with the axes ``data`` and ``model``."""
    yield from _selection(mesh)
    yield from _masks(mesh)
    yield from _scores(mesh)
    yield from _transformations(mesh)
    yield from _training(mesh)


def _struct(mesh: Mesh, shape: tuple[int, ...], dtype: Any, *spec: Any) -> jax.ShapeDtypeStruct:
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def layer(mesh: Mesh, dtype: Any = jnp.float32) -> dict:
    """Return a convolution with BatchNorm and a head, cut along one axis, along two, and not at all."""
    both = ("data", "model")
    return {
        "conv": {"kernel": _struct(mesh, (3, 3, 64, 512), dtype, None, None, "data", "model")},
        "bn": {
            "scale": _struct(mesh, (512,), dtype, both),
            "bias": _struct(mesh, (512,), dtype, both),
        },
        "head": {
            "kernel": _struct(mesh, (512, 16), dtype, "model"),
            "bias": _struct(mesh, (16,), dtype),
        },
    }


def smallest_shard(mesh: Mesh) -> int:
    """Return the entries that one device holds of the smallest leaf that is cut."""
    return layer(mesh)["bn"]["scale"].size // mesh.size


def _like(params: Any, tree: Any) -> Any:
    """Give each leaf of a tree the sharding of the parameter with its path and shape, else none."""
    paths = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    mesh = jax.tree.leaves(params)[0].sharding.mesh

    def place(path, leaf):
        name = jax.tree_util.keystr(path)
        twins = [p for n, p in paths.items() if name.endswith(n) and p.shape == leaf.shape]
        sharding = twins[0].sharding if twins else NamedSharding(mesh, PartitionSpec())
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree_util.tree_map_with_path(place, tree)


def _mask_tree(mesh: Mesh) -> dict:
    params = layer(mesh)
    masks = jax.eval_shape(lambda p: wj.top_masks(wj.scores.magnitude(p), density=0.5), params)
    return _like(params, masks)


def _packed_as(mask: Any, packed: Any) -> Any:
    """Cut a packed mask as the mask is cut."""
    if mask.ndim == 0:
        return mask
    shape, dtype = packed.bits.shape, packed.bits.dtype
    bits = jax.ShapeDtypeStruct(shape, dtype, sharding=mask.sharding)
    return dataclasses.replace(packed, bits=bits)


def _selection(mesh: Mesh) -> Iterator[Program]:
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        for scope, ties in (("global", "index"), ("leaf", "index"), ("global", "strict")):

            def chosen(params, scope=scope, ties=ties):
                scores = wj.scores.magnitude(params)
                return wj.top_masks(scores, density=0.3, scope=scope, ties=ties)

            name = f"top_masks {jnp.dtype(dtype).name} {scope} {ties}"
            yield Program(name, chosen, (layer(mesh, dtype),))


def _masks(mesh: Mesh) -> Iterator[Program]:
    params, masks = layer(mesh), _mask_tree(mesh)
    yield Program("apply_masks", wj.apply_masks, (params, masks))
    yield Program("density", wj.density, (masks, params))
    yield Program("mask_distance", wj.mask_distance, (masks, masks))
    yield Program("jaccard", wj.jaccard, (masks, masks))
    pack = functools.partial(wj.pack, axis=-1)  # every leaf is cut into whole bytes there
    yield Program("pack", pack, (masks,))
    packed = jax.tree.map(_packed_as, masks, jax.eval_shape(pack, masks))
    yield Program("unpack", wj.unpack, (packed,))
    key = jax.eval_shape(lambda: jax.random.key(0))
    yield Program("random_like", wj.random_like, (key, masks))


def _scores(mesh: Mesh) -> Iterator[Program]:
    scores, key = wj.scores, jax.eval_shape(lambda: jax.random.key(0))
    config = VGGConfig(widths=(64, "M", 128), channels=3)
    view = abstract(config)
    images = _struct(mesh, (32, 16, 16, 3), jnp.float32, "data")
    whole = jax.tree.map(lambda p: _struct(mesh, p.shape, p.dtype), (view.params, view.state))

    def loss(state, params, images):
        return jnp.mean(view.apply(params, state, images)[0] ** 2)

    def snip(params, state, images):
        return scores.snip(params, images, loss=functools.partial(loss, state))

    def synflow(params, state, images):
        return scores.synflow(params, images, apply=lambda p, x: view.apply(p, state, x)[0])

    for dtype in (jnp.float32, jnp.bfloat16):
        params, name = layer(mesh, dtype), jnp.dtype(dtype).name
        yield Program(f"scores.magnitude {name}", scores.magnitude, (params,))
        yield Program(f"scores.norm_scale {name}", scores.norm_scale, (params,))
        yield Program(f"scores.random {name}", scores.random, (params, key))
    yield Program("scores.snip", snip, (*whole, images), local=False)
    yield Program("scores.synflow", synflow, (*whole, images), local=False)


def _transformations(mesh: Mesh) -> Iterator[Program]:
    params, masks = layer(mesh), _mask_tree(mesh)
    norm_scale, magnitude = wj.scores.norm_scale, wj.scores.magnitude
    detectors = {
        "early_bird": wj.early_bird(norm_scale),
        "early_bird 3 ratios, consecutive": wj.early_bird(
            magnitude, (0.3, 0.5, 0.7), compare="consecutive"
        ),
        "early_bird reference rule": wj.early_bird(norm_scale, mask_rule="reference", strict=True),
    }
    for name, detector in detectors.items():
        state = _like(params, jax.eval_shape(detector.init, params))
        yield Program(name, detector.update, (params, state))

    def updated(tx):
        def update(grads, state, params):
            return tx.update(grads, state, params)

        return update, (params, _like(params, jax.eval_shape(tx.init, params)), params)

    yield Program("truncate", *updated(wj.truncate(_ones(masks), 3e-3)))
    yield Program("l1_pull", *updated(wj.l1_pull(1e-4)))
    key = jax.random.key(0)
    chains = {
        "worm first": optax.chain(wj.worm(norm_scale, every=10), optax.sgd(0.1, momentum=0.9)),
        "worm last, all weights": optax.chain(
            optax.adamw(1e-3), wj.worm(magnitude, every=10, scope="scored", frozen="window")
        ),
        "worm random masks": wj.worm(magnitude, every=10, policy=wj.policies.random_masks(key)),
        "worm greedy": wj.worm(norm_scale, every=10, policy=wj.policies.greedy()),
    }
    for name, tx in chains.items():
        function, args = updated(tx)
        yield Program(f"update, {name}", function, args)
        yield Program(f"detect, {name}", wj.detect, (params, args[1]))
    yield _many_seeds(mesh)


def _ones(masks: Any) -> Any:
    return jax.tree.map(lambda m: np.ones(m.shape, bool), masks)


def _many_seeds(mesh: Mesh) -> Program:
    """One conditional gates the detection of all seeds, because their counter is one."""
    tx = wj.worm(wj.scores.norm_scale, every=10)
    params = {"scale": _struct(mesh, (SEEDS, 512), jnp.float32)}
    one = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape[1:], p.dtype), params)
    axes = wj.seed_axes(jax.eval_shape(tx.init, one))
    states = jax.eval_shape(jax.vmap(tx.init, out_axes=axes), params)
    states = jax.tree.map(lambda s: _struct(mesh, s.shape, s.dtype), states)
    update = jax.vmap(tx.update, (0, axes, 0), (0, axes))
    return Program(f"update, {SEEDS} seeds", update, (params, states, params), conditionals=1)


def _training(mesh: Mesh) -> Iterator[Program]:
    """Data parallel, with the leaves of the widest layer cut along their last axis."""
    for dtype in ("float32", "bfloat16"):
        view = abstract(VGGConfig(widths=(64, "M", 128), channels=3, dtype=dtype))
        params = jax.tree.map(
            lambda p: _struct(
                mesh,
                p.shape,
                p.dtype,
                *[None] * (p.ndim - 1),
                "model" if p.shape[-1] == 128 else None,
            ),
            view.params,
        )
        tx = optax.chain(
            wj.worm(wj.scores.norm_scale, every=10),
            wj.l1_pull(1e-4),
            optax.add_decayed_weights(1e-4),
            optax.sgd(optax.cosine_decay_schedule(0.1, 100.0), momentum=0.9),
        )
        key, count = jax.eval_shape(lambda: (jax.random.key(0), jnp.zeros((), jnp.int32)))
        state = TrainState(params, view.state, jax.eval_shape(tx.init, params), key, count, count)
        state = _like(params, state)
        images = _struct(mesh, (32, 16, 16, 3), jnp.float32, "data")
        labels = _struct(mesh, (32,), jnp.int32, "data")
        step = make_step(view.apply, tx)
        args = (state, images, labels)
        yield Program(f"training step {dtype}", step, args, local=False, donate=(0,))
        masks = _like(params, jax.eval_shape(wj.masks_of, state.opt_state, params))
        yield Program(
            f"masked training step {dtype}", step, (*args, masks), local=False, donate=(0,)
        )
