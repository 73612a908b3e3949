"""The benchmark of sparse training: what it counts is counted right, and it promises the rows it should."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import dst
from experiments.training import init_state
from tests.benchmarks.test_benchmarks import TINY_NETWORK
from tests.benchmarks.test_benchmarks import run as run  # a fixture
from tests.dst import oracles

PROGRAM = """
%body (p: pred[1000]) -> pred[1000] {
  ROOT %big = f32[1000]{0} add(%p, %p)
}

ENTRY %main (a: f32[2,3], m: pred[2,3]) -> (f32[2,3], pred[]) {
  %a = f32[2,3]{1,0} parameter(0)
  %m = pred[2,3]{1,0} parameter(1)
  %t = (pred[], /*index=1*/pred[2,3]{1,0}) tuple(%c, %m)
  %w.1 = (pred[], /*index=1*/pred[2,3]{1,0}) while(%t), condition=%cond, body=%body
  %m.1 = pred[2,3]{1,0} get-tuple-element(%w.1), index=1
  %copy.2 = bf16[2,3]{1,0:T(8,128)} copy(%a), metadata={op_name="f(%x)"}
  ROOT %f = f32[2,3]{1,0} fusion(%a, %m.1), kind=kLoop, calls=%fused
}
"""


def test_bytes_outside_loops():
    assert dst.bytes_outside(PROGRAM) == (12 + 24) + (24 + 24 + 6)
    assert dst.bytes_outside("") == 0


def test_gates_are_conditionals_and_loops_of_one_flag():
    assert dst.gates(PROGRAM) == 1
    assert dst.gates("%w = (pred[8]{0}, pred[8,2]{1,0}) while(%t), body=%b") == 0
    assert dst.gates("%c = pred[2]{0} conditional(%p, %a, %b), branch_computations={%x, %y}") == 1


def test_the_sorting_rule_is_jaxpruners():
    random = np.random.default_rng(0)
    mask = random.random((6, 8)) < 0.5
    weight = np.where(mask, random.normal(size=mask.shape), 0).astype(np.float32)
    gradient = random.integers(-3, 3, mask.shape).astype(np.float32)  # ties
    ours = jax.jit(dst.sorting_rule)(mask, weight, gradient)
    np.testing.assert_array_equal(ours, oracles.jaxpruner(mask, weight, gradient, dst.DROP))


def test_a_step_is_wound_to_a_mask_update():
    tx = dst.sparse(optax.sgd(0.1))
    state = init_state({"kernel": jnp.ones((4, 4))}, {}, tx, jax.random.key(0))
    assert int(dst._due(state).opt_state.count) == dst.EVERY - 1


@pytest.mark.slow
def test_dst(run):
    rows = run(dst, *TINY_NETWORK, "--hidden", "16")
    targets = {
        "mask update by sorting / ours": (20.0, True),
        "programs over mask updates / one": (1.0, False),
        "gates of 8 seeds / one": (1.0, False),
        "bits of packed masks / entries": (1.01, False),
    }
    for name in ("MLP", "ResNet"):
        targets[f"{name}: step with masks / dense"] = (1.03, False)
        targets[f"{name}: step that updates masks / dense"] = (4.0, False)
        targets[f"{name}: bytes of a step with masks / dense"] = (None, False)
    assert {name: (row.target, row.at_least) for name, row in rows.items()} == targets
    for name in ("programs over mask updates / one", "gates of 8 seeds / one"):
        assert rows[name].holds
