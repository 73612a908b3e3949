"""The groups of ResNet-50 and of a BERT layer, against tables written from their architectures."""

import jax
import jax.numpy as jnp
import pytest
from zoo._linen_images import ResNet50
from zoo._linen_sequences import Bert

from wormjax.structure import find_groups

pytestmark = pytest.mark.usefixtures("as_users_have_it")


def found(model, x):
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    state = {k: v for k, v in variables.items() if k != "params"} or None

    def apply(params, *rest):
        if state is None:
            return model.apply({"params": params}, *rest)
        return model.apply({"params": params, **rest[0]}, *rest[1:]), rest[0]

    groups = find_groups(apply, variables["params"], x, state=state)
    return {frozenset((s.path, s.axis) for s in g.slices): g.size for g in groups}


def norm(path):
    return {(f"{path}/scale", 0), (f"{path}/bias", 0)}


def resnet50():
    """One group in the stem, two inside each of sixteen blocks, and one residual stream a stage."""
    table = {}
    # blocks are numbered through; the first of a stage projects its shortcut (Conv_3, BatchNorm_3)
    stages, blocks = [], iter(range(16))
    for width, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        stages.append((width, [f"Bottleneck_{next(blocks)}" for _ in range(count)]))
    first = stages[0][1][0]
    stem = {("Conv_0/kernel", 3), *norm("BatchNorm_0")}
    stem |= {(f"{first}/Conv_0/kernel", 2), (f"{first}/Conv_3/kernel", 2)}
    table[frozenset(stem)] = 64
    for k, (width, names) in enumerate(stages):
        stream = {(f"{names[0]}/Conv_3/kernel", 3), *norm(f"{names[0]}/BatchNorm_3")}
        for name in names:
            for inner in (0, 1):
                made = {(f"{name}/Conv_{inner}/kernel", 3), *norm(f"{name}/BatchNorm_{inner}")}
                table[frozenset({*made, (f"{name}/Conv_{inner + 1}/kernel", 2)})] = width
            stream |= {(f"{name}/Conv_2/kernel", 3), *norm(f"{name}/BatchNorm_2")}
        stream |= {(f"{name}/Conv_0/kernel", 2) for name in names[1:]}
        if k == 3:
            stream |= {("Dense_0/kernel", 0)}
        else:
            following = stages[k + 1][1][0]
            stream |= {(f"{following}/Conv_0/kernel", 2), (f"{following}/Conv_3/kernel", 2)}
        table[frozenset(stream)] = 4 * width
    return table


def test_resnet50():
    table = resnet50()
    assert len(table) == 1 + 2 * 16 + 4
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    assert found(ResNet50(stages=(3, 4, 6, 3), width=64), images) == table


BERT_LAYER = {
    # the residual stream, through embeddings, both norms, and into the pooler
    frozenset(
        {
            *(("word/embedding", 1), ("position/embedding", 1), ("segment/embedding", 1)),
            *norm("LayerNorm_0"),
            *((f"layer0/{name}/kernel", 0) for name in ("query", "key", "value", "up")),
            *(("layer0/out/kernel", 2), ("layer0/out/bias", 0)),
            *norm("layer0/attention_norm"),
            *(("layer0/down/kernel", 1), ("layer0/down/bias", 0)),
            *norm("layer0/norm"),
            ("pooler/kernel", 0),
        }
    ): 8,
    # heads
    frozenset(
        {
            *((f"layer0/{name}/kernel", 1) for name in ("query", "key", "value")),
            *((f"layer0/{name}/bias", 0) for name in ("query", "key", "value")),
            ("layer0/out/kernel", 0),
        }
    ): 2,
    # the width in which queries meet keys, the same in all heads
    frozenset(
        {
            *((f"layer0/{name}/kernel", 2) for name in ("query", "key")),
            *((f"layer0/{name}/bias", 1) for name in ("query", "key")),
        }
    ): 4,
    # the width of values
    frozenset({("layer0/value/kernel", 2), ("layer0/value/bias", 1), ("layer0/out/kernel", 1)}): 4,
    frozenset({("layer0/up/kernel", 1), ("layer0/up/bias", 0), ("layer0/down/kernel", 0)}): 11,
    frozenset({("pooler/kernel", 1), ("pooler/bias", 0), ("classifier/kernel", 0)}): 8,
}


def test_bert_layer():
    tokens = jax.ShapeDtypeStruct((2, 6), jnp.int32)
    assert found(Bert(layers=1), tokens) == BERT_LAYER
