"""An exported ticket is a program of its own, right for every size of batch."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from wormjax.structure import find_groups, load_ticket, plan, save_ticket, shrink


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


PARAMS = {"conv": normal(0, 3, 3, 2, 8), "dense": normal(1, 4 * 4 * 8, 6), "head": normal(2, 6, 3)}
STATE = {"mean": normal(3, 8)}


def network(params, state, inputs):
    """A convolution, a table look-up, a flattening: what has a batch in its shapes."""
    x = jax.lax.conv_general_dilated(
        inputs["image"], params["conv"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jax.nn.relu(x - state["mean"].reshape(1, 1, 1, -1))
    x = jnp.tanh(x.reshape(x.shape[0], -1) @ params["dense"])
    logits = x @ params["head"] * inputs["scale"].astype(jnp.float32).reshape(-1, 1)
    return {"logits": logits, "label": jnp.argmax(logits, axis=-1)}, state


def inputs(size):
    return {"image": normal(4, size, 4, 4, 2), "scale": jnp.arange(size, dtype=jnp.int32) + 1}


@pytest.fixture(scope="module")
def ticket():
    groups = find_groups(network, PARAMS, inputs(5), state=STATE)
    planned = plan(groups, wj.scores.magnitude(PARAMS), keep=0.5, scope="group")
    made = shrink(planned, PARAMS, STATE, verify=True)
    assert (made.params["conv"].shape[-1], made.params["head"].shape[0]) == (4, 3)
    return made


def test_one_program_serves_every_batch_on_every_platform(ticket):
    exported = ticket.export()
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert "tensor<?x4x4x2xf32>" in exported.mlir_module()
    program = jax.export.deserialize(exported.serialize())
    for size in (1, 2, 7):
        got = program.call(inputs(size))
        want, _ = ticket.apply(ticket.params, ticket.state, inputs(size))
        np.testing.assert_allclose(got["logits"], want["logits"], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(got["label"], want["label"])


def test_the_bytes_run_in_a_fresh_process_without_this_library(ticket, tmp_path):
    (tmp_path / "program").write_bytes(ticket.export(platforms=("cpu", "tpu")).serialize())
    np.savez(tmp_path / "inputs.npz", **inputs(3))
    script = f"""
import sys, numpy as np, jax, jax.export
inputs = dict(np.load({str(tmp_path / "inputs.npz")!r}))
program = jax.export.deserialize(bytearray(open({str(tmp_path / "program")!r}, "rb").read()))
print(np.asarray(program.call(inputs)["logits"]).tobytes().hex())
assert not any(name.split(".")[0] in ("wormjax", "flax", "optax") for name in sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    want, _ = ticket.apply(ticket.params, ticket.state, inputs(3))
    got = np.frombuffer(bytes.fromhex(ran.stdout), np.float32).reshape(3, 3)
    np.testing.assert_allclose(got, want["logits"], rtol=1e-5, atol=1e-5)


def test_other_inputs_than_those_of_the_groups(ticket, tmp_path):
    shapes = jax.eval_shape(lambda: inputs(2))
    assert ticket.export(shapes, platforms=("cpu",)).in_avals[0].shape[1:] == (4, 4, 2)
    save_ticket(tmp_path / "t", ticket)
    loaded = load_ticket(tmp_path / "t", network, PARAMS, STATE)
    with pytest.raises(ValueError, match="A loaded ticket does not know its inputs"):
        loaded.export()
    got = loaded.export(shapes, platforms=("cpu",)).call(inputs(4))
    want, _ = ticket.apply(ticket.params, ticket.state, inputs(4))
    np.testing.assert_allclose(got["logits"], want["logits"], rtol=1e-5, atol=1e-5)


def small(apply, *example):
    params = {"a": normal(0, 5, 8), "b": normal(1, 8, 3)}
    groups = find_groups(apply, params, *example)
    return shrink(plan(groups, wj.scores.magnitude(params), keep=0.5), params)


def test_examples_that_depend_on_each_other_are_refused():
    def apply(params, x):
        h = x @ params["a"]
        return jnp.tanh(h - jnp.mean(h, axis=0, keepdims=True)) @ params["b"]

    x = normal(2, 6, 5)
    ticket = small(apply, x)
    with pytest.raises(ValueError, match=r"depends on the others of its batch.*any_batch=False"):
        ticket.export()
    exported = ticket.export(any_batch=False, platforms=("cpu",))
    np.testing.assert_allclose(exported.call(x), ticket.apply(ticket.params, x), rtol=1e-6)
    with pytest.raises(ValueError, match=r"[Ss]hape"):
        exported.call(x[:3])


def test_a_batch_must_be_in_front():
    def apply(params, x, temperature):
        return jnp.tanh(x @ params["a"]) @ params["b"] / temperature

    x, one = normal(2, 6, 5), jnp.ones(())
    with pytest.raises(ValueError, match=r"The input\[1\] has no axis for the batch"):
        small(apply, x, one).export()

    def turned(params, x):
        return (jnp.tanh(x @ params["a"]) @ params["b"]).T

    with pytest.raises(ValueError, match=r"The output has shape \(3, 1\) for one example"):
        small(turned, x).export()
    assert small(turned, x).export(any_batch=False, platforms=("cpu",)).out_avals[0].shape == (3, 6)
