"""What comes back is what went in, and what is not refused is right."""

import dataclasses
import json
import shutil
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.training import CheckpointError, Checkpoints, Recipe, init_state, stack_seeds

MARK = {"config": "abc", "widths": [8, 16]}


class Window(NamedTuple):
    packed: Any
    filled: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Detector:
    window: Window
    emerged: Any
    rule: str = dataclasses.field(metadata={"static": True})


def everything(seed=0):
    """A state with each kind of leaf and node that a run can hold."""
    rng = np.random.default_rng(seed)

    def as_jax(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    params = {"conv1": {"kernel": as_jax(3, 3, 1, 4), "scale": as_jax(4).astype(jnp.bfloat16)}}
    detector = Detector(
        Window(jnp.asarray(rng.integers(0, 256, (5, 3)), jnp.uint8), jnp.int32(2)),
        jnp.asarray(rng.integers(0, 2, 3), bool),
        "newest",
    )
    tx = Recipe().optimizer(3)
    state = init_state(params, {"mean": as_jax(4)}, tx, jax.random.key(seed))
    odd = {
        "empty": jnp.zeros((0, 3)),
        "none": None,
        "masked": optax.MaskedNode(),
        "keys": jax.random.split(jax.random.key(seed, impl="rbg"), 2),
        "flag": jnp.array(bool(seed)),
        "host": rng.normal(size=3),
        "tuple": (jnp.float16(seed), [jnp.int8(seed)]),
        "a/b": jnp.float32(1 + seed),
        "a": {"b": jnp.float32(2 + seed)},
    }
    return {"state": stack_seeds([state, state]), "detector": detector, "odd": odd}


def is_key(x):
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def raw(x):
    return np.asarray(jax.random.key_data(x) if is_key(x) else x)


def assert_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape, type(x)) == (y.dtype, y.shape, type(y))
        assert raw(x).tobytes() == raw(y).tobytes()


def test_everything_comes_back_bit_for_bit(tmp_path):
    saved = everything(1)
    Checkpoints(tmp_path / "c", MARK).save(saved, {"arm": "worm", "epoch": 3, "nested": [1, None]})
    tree, position = Checkpoints(tmp_path / "c", MARK).restore(everything(0))
    assert_identical(tree, saved)
    assert position == {"arm": "worm", "epoch": 3, "nested": [1, None]}
    draws = jax.vmap(jax.random.uniform)
    np.testing.assert_array_equal(draws(tree["odd"]["keys"]), draws(saved["odd"]["keys"]))


def test_a_template_may_be_shapes_only(tmp_path):
    saved = everything(1)
    store = Checkpoints(tmp_path, MARK)
    store.save(saved, {})
    host = saved["odd"].pop("host")
    shapes = jax.eval_shape(lambda: everything(0))
    shapes["odd"]["host"] = host
    tree, _ = store.restore(shapes)
    np.testing.assert_array_equal(tree["odd"].pop("host"), host)
    assert_identical(tree, saved)


def test_special_values_survive(tmp_path):
    values = jnp.array([jnp.nan, -jnp.nan, jnp.inf, -0.0, 1e-45], jnp.float32)
    store = Checkpoints(tmp_path, MARK)
    store.save({"w": values}, {})
    assert_identical(store.restore({"w": jnp.zeros(5)})[0], {"w": values})


def test_a_restored_state_can_be_donated_and_keeps_its_devices(tmp_path):
    devices = jax.devices()[:2]
    spread = jax.sharding.NamedSharding(jax.make_mesh((2,), ("x",), devices=devices), jax.P("x"))
    saved = {"free": jnp.arange(4.0), "spread": jax.device_put(jnp.arange(4.0), spread)}
    store = Checkpoints(tmp_path, MARK)
    store.save(saved, {})
    tree, _ = store.restore(saved)
    assert tree["spread"].sharding == spread
    assert not tree["free"].committed
    double = jax.jit(lambda x: x * 2, donate_argnums=0)
    for name in saved:
        np.testing.assert_array_equal(double(tree[name]), [0.0, 2.0, 4.0, 6.0])
    np.testing.assert_array_equal(store.restore(saved)[0]["free"], np.arange(4.0))


def test_the_newest_two_stay_and_leftovers_go(tmp_path):
    store = Checkpoints(tmp_path, MARK)
    assert store.restore({"w": jnp.zeros(2)}) is None
    for epoch in range(4):
        assert store.save({"w": jnp.full(2, epoch)}, {"epoch": epoch}).is_dir()
        (tmp_path / ".writing-99999999" / "arrays").mkdir(parents=True)
        (tmp_path / ".deleting-00000000").mkdir(exist_ok=True)
        assert store.restore({"w": jnp.zeros(2, int)})[1] == {"epoch": epoch}
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [".deleting-00000000", ".writing-99999999", "00000002", "00000003"]
    Checkpoints(tmp_path, MARK, keep=1).save({"w": jnp.zeros(2)}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["00000004"]


def test_nothing_is_pickled_and_nobody_talks(tmp_path, caplog, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = Checkpoints(tmp_path, MARK)
        store.save(everything(1), {})
        store.restore(everything(0))
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
    for path in tmp_path.rglob("*"):
        assert path.suffix not in (".pkl", ".pickle")
        assert path.is_dir() or not path.read_bytes().startswith(b"\x80\x04")


def small(dtype=jnp.float32, names=("w", "b"), shape=(3,)):
    return {name: jnp.ones(shape, dtype) for name in names}


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    Checkpoints(tmp_path, MARK).save(small(), {})
    with pytest.raises(
        CheckpointError, match="another run: 'config' is 'abc' there and 'abd' here"
    ):
        Checkpoints(tmp_path, {**MARK, "config": "abd"}).restore(small())
    with pytest.raises(CheckpointError, match=r"'lr' is 'absent' there and 0\.1 here"):
        Checkpoints(tmp_path, {**MARK, "lr": 0.1}).restore(small())


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        (small(names=("w", "b", "c")), "another tree: it has no leaf 'c'"),
        (small(names=("w",)), "another tree: its leaf 'b' is not asked for"),
        (small(shape=(4,)), r"'b' with shape \(3,\), but \(4,\) is asked for"),
        (small(dtype=jnp.float16), "'b' as float32, but float16 is asked for, and a cast"),
        (small(dtype=jnp.int32), "'b' as float32, but int32 is asked for"),
    ],
)
def test_another_tree_is_refused(tmp_path, template, sentence):
    store = Checkpoints(tmp_path, MARK)
    store.save(small(), {})
    with pytest.raises(CheckpointError, match=sentence):
        store.restore(template)


def test_an_integer_is_never_cast_to_a_float(tmp_path):
    """Orbax alone would return 16777216."""
    store = Checkpoints(tmp_path, MARK)
    store.save({"n": jnp.array([16777217], jnp.int32)}, {})
    with pytest.raises(CheckpointError, match="'n' as int32, but float32 is asked for"):
        store.restore({"n": jnp.zeros(1, jnp.float32)})
    assert store.restore({"n": jnp.zeros(1, jnp.int32)})[0]["n"].tolist() == [16777217]


def test_keys_of_another_generator_are_refused(tmp_path):
    store = Checkpoints(tmp_path, MARK)
    store.save({"key": jax.random.key(0)}, {})
    for other in (jax.random.key(0, impl="rbg"), jax.random.PRNGKey(0)):
        with pytest.raises(CheckpointError, match="'key'"):
            store.restore({"key": other})


def test_every_broken_file_is_noticed(tmp_path):
    """Each file of a checkpoint in turn is cut, emptied, changed in the middle, and taken away."""
    saved = everything(1)
    store = Checkpoints(tmp_path / "good", MARK)
    store.save(saved, {"epoch": 1})
    store.save(saved, {"epoch": 2})
    newest = tmp_path / "good" / "00000001"
    files = sorted(p.relative_to(newest) for p in newest.rglob("*") if p.is_file())
    assert {"manifest.json", "arrays/manifest.ocdbt", "arrays/_METADATA"} <= set(map(str, files))
    for file in files:
        content = (newest / file).read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :]
        for broken in (content[:middle], b"", flipped, None):
            (newest / file).unlink()
            if broken is not None:
                (newest / file).write_bytes(broken)
            with pytest.raises(
                CheckpointError, match=r"is damaged.*Remove that folder to go on from 00000000"
            ):
                store.restore(everything(0))
            (newest / file).write_bytes(content)
    assert_identical(store.restore(everything(0))[0], saved)
    shutil.rmtree(newest)
    assert store.restore(everything(0))[1] == {"epoch": 1}


def test_arrays_of_another_checkpoint_are_noticed(tmp_path):
    store = Checkpoints(tmp_path, MARK)
    first, second = store.save(small(), {}), store.save(jax.tree.map(jnp.zeros_like, small()), {})
    shutil.rmtree(second / "arrays")
    shutil.copytree(first / "arrays", second / "arrays")
    with pytest.raises(CheckpointError, match=r"its file arrays/\S+ (was changed|cannot be read)"):
        store.restore(small())


def test_an_array_that_comes_back_changed_is_noticed(tmp_path, monkeypatch):
    """Whole files do not prove that the reader gives back what the writer got."""
    store = Checkpoints(tmp_path, MARK)
    store.save(small(), {})

    def restore(folder, args):
        return {"w": np.ones(3, np.float32), "b": np.ones(3, np.float64)}

    monkeypatch.setattr(store._checkpointer(), "restore", restore)
    with pytest.raises(CheckpointError, match="'b' is not the one that was saved"):
        store.restore(small())


def test_a_changed_position_is_noticed(tmp_path):
    store = Checkpoints(tmp_path, MARK)
    path = store.save(small(), {"epoch": 7}) / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "position": {"epoch": 8}}))
    with pytest.raises(
        CheckpointError, match=r"changed after it was written\. There is none before"
    ):
        store.restore(small())
    path.write_text(json.dumps({**manifest, "format": 9}))
    with pytest.raises(CheckpointError, match="has the format 9; this version reads 1"):
        store.restore(small())
    path.write_text("[]")
    with pytest.raises(CheckpointError, match="missing or not whole"):
        store.restore(small())


def test_the_manifest_says_what_there_is(tmp_path):
    path = Checkpoints(tmp_path, MARK).save(everything(1), {"epoch": 1}) / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["fingerprint"] == MARK
    assert manifest["versions"]["jax"] == jax.__version__
    kernel = manifest["leaves"]["['state'].params['conv1']['kernel']"]
    assert (kernel["shape"], kernel["dtype"]) == ([2, 3, 3, 1, 4], "float32")
    assert len(kernel["checksum"]) == 32


def test_wrong_arguments_are_sentences(tmp_path):
    store = Checkpoints(tmp_path, MARK)
    with pytest.raises(TypeError, match="leaf 'n' is a int, not an array"):
        store.save({"n": 3}, {})
    with pytest.raises(TypeError, match="the position cannot be written as JSON"):
        store.save(small(), {"when": object()})
    with pytest.raises(TypeError, match="the position cannot be written as JSON"):
        store.save(small(), {"loss": float("nan")})
    with pytest.raises(TypeError, match="lists for tuples"):
        store.save(small(), {"seeds": (1, 2)})
    with pytest.raises(TypeError, match="the fingerprint comes back"):
        Checkpoints(tmp_path, {"a": {1: 2}})
    with pytest.raises(ValueError, match="keep is 0"):
        Checkpoints(tmp_path, MARK, keep=0)
    assert list(tmp_path.iterdir()) == []
