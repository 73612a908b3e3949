"""Iterative pruning with a trainer in NumPy: what is rewound, what is trained again, and what survives a kill."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from wormjax.lottery import LevelError, Network, imp, round_counts

STEPS = 8


class Killed(Exception):
    pass


class Trainer:
    """Momentum descent towards data that depends on the step; ``in_loss`` leaves pruned weights to decay."""

    def __init__(self, kill_at=None, in_loss=False):
        self.calls, self.kill_at, self.in_loss = [], kill_at, in_loss

    def __call__(self, network, masks, steps, rates):
        if self.kill_at is not None and len(self.calls) >= self.kill_at:
            raise Killed
        self.calls.append((network, steps, rates))
        w, b = (np.asarray(network.params[k]) for k in ("w", "b"))
        v = np.asarray(network.opt_state["v"])
        mean = np.asarray(network.state["mean"])
        mask = np.asarray(masks["w"])
        for step, rate in zip(steps, rates, strict=True):
            target = np.sin(np.arange(w.size, dtype=np.float32).reshape(w.shape) + step / 16)
            grad = np.where(mask, np.where(mask, w, 0) - target, 0) + np.float32(0.1) * w
            v = np.float32(0.5) * v + (grad if self.in_loss else np.where(mask, grad, 0))
            w = w - np.float32(rate) * v
            b = b - np.float32(rate) * (b - 1)
            mean = np.float32(0.9) * mean + np.float32(0.1) * np.float32(step)
        if not self.in_loss:
            w = np.where(mask, w, 0).astype(np.float32)
        return Network(
            {"w": jnp.asarray(w), "b": jnp.asarray(b)}, {"mean": jnp.asarray(mean)}, {"v": v}
        )


PARAMS = {"w": np.linspace(-1, 1, 40, dtype=np.float32).reshape(5, 8), "b": np.zeros(8, np.float32)}
PRUNABLE = {"w": True, "b": False}


def _run(train=None, **changed):
    settings = {
        "steps": STEPS,
        "learning_rate": np.linspace(0.2, 0.1, STEPS),
        "rounds": 2,
        "rewind": "3it",
        "prunable": PRUNABLE,
        "state": {"mean": np.zeros(1, np.float32)},
        "init_optimizer": lambda params: {"v": np.zeros_like(np.asarray(params["w"]))},
    }
    return imp(train or Trainer(), PARAMS, **(settings | changed))


def _same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


def test_counts_and_the_rewound_network():
    train = Trainer()
    levels = _run(train)
    assert [sum(level.kept.values()) for level in levels] == round_counts(40, 2) == [40, 32, 26]
    # level 0 stops at the rewinding point; each round then starts from it
    assert [list(steps) for _, steps, _ in train.calls] == [[0, 1, 2], [3, 4, 5, 6, 7]] + [
        [3, 4, 5, 6, 7]
    ] * 2
    at_three, _, _ = train.calls[1]
    for level, (start, _, rates) in zip(levels.levels[1:], train.calls[2:], strict=True):
        _same(start.params, wj.apply_masks(at_three.params, level.masks))
        _same(start.state, at_three.state)  # running statistics go back, too
        assert not np.asarray(start.opt_state["v"]).any()
        np.testing.assert_array_equal(rates, np.linspace(0.2, 0.1, STEPS)[3:])
        assert not np.asarray(level.trained.params["w"])[~np.asarray(level.masks["w"])].any()
    assert levels[1].layer_densities == {"w": 0.8}


def test_i1_round_zero_starts_where_init_goes_back_to():
    # foresight's defects 10 and 20: no iterative magnitude pruning that runs, or one that does not go back
    train = Trainer()
    levels = _run(train, mode="init")
    assert [sum(level.kept.values()) for level in levels] == [40, 32, 26]  # 2 rounds of 20 %
    first = train.calls[0][0]
    _same(first.params, PARAMS)
    kept = np.asarray(train.calls[1][0].params["w"]) != 0
    _same(np.asarray(train.calls[1][0].params["w"])[kept], PARAMS["w"][kept])
    assert train.calls[1][1] == range(STEPS)


def test_i3_the_schedule_may_start_at_zero():
    train = Trainer()
    _run(train, schedule_from="zero")
    assert train.calls[2][1] == range(STEPS)


@pytest.mark.parametrize("mode", ["lr_rewind", "fine_tune", "slr", "clr", "llr", "allr"])
def test_modes_that_keep_the_weights(mode):
    train = Trainer()
    levels = _run(train, mode=mode, retrain_steps=4)
    for before, level, (start, steps, _) in zip(
        levels, levels.levels[1:], train.calls[1:], strict=False
    ):
        _same(start.params, wj.apply_masks(before.trained.params, level.masks))
        _same(start.opt_state, before.trained.opt_state)  # it is carried on
        assert steps == range(STEPS + 4 * (level.round - 1), STEPS + 4 * level.round)


def test_the_optimizer_may_be_rewound():
    train = Trainer()
    _run(train, optimizer="rewound")
    _same(train.calls[2][0].opt_state, train.calls[1][0].opt_state)


def test_masking_in_the_loss_or_after_each_step_leaves_the_same_weights():
    one, other = _run(Trainer()), _run(Trainer(in_loss=True))
    for a, b in zip(one, other, strict=True):
        _same((a.masks, a.trained.params), (b.masks, b.trained.params))


@pytest.mark.parametrize(
    "kill_at", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 1, 3, 4, 5, 6, 7))]
)
def test_a_kill_at_any_point_resumes_to_the_same_bits(tmp_path, kill_at):
    measure = {
        "evaluate": lambda network, masks: {"sum": float(np.asarray(network.params["w"]).sum())}
    }
    whole = _run(**measure)
    setup = {"folder": tmp_path, "save_every": 2} | measure
    train = Trainer(kill_at)
    with pytest.raises(Killed):
        _run(train, **setup)
    rest = Trainer()
    resumed = _run(rest, **setup)
    assert sum(len(steps) for _, steps, _ in train.calls + rest.calls) == 8 + 2 * 5  # none twice
    for a, b in zip(whole, resumed, strict=True):
        _same((a.masks, a.trained), (b.masks, b.trained))
        assert dict(a.measured) == dict(b.measured)
    _same(whole.rewound, resumed.rewound)


def test_i8_i9_a_finished_run_is_read_back_with_its_history_and_can_go_on(tmp_path):
    def measure(network, masks):
        return {"kept": int(np.asarray(masks["w"]).sum())}

    _run(folder=tmp_path, evaluate=measure)
    train = Trainer()
    again = _run(train, folder=tmp_path)
    assert not train.calls
    assert [level.measured["kept"] for level in again] == [40, 32, 26]
    longer = _run(train, folder=tmp_path, rounds=3)
    assert len(train.calls) == 1
    assert [sum(level.kept.values()) for level in longer] == round_counts(40, 3)


def test_a_folder_of_another_run_is_refused(tmp_path):
    _run(folder=tmp_path / "run", rounds=1)
    with pytest.raises(LevelError, match='rate = "1/5", and this one "3/10"'):
        _run(folder=tmp_path / "run", rate=0.3)
    with pytest.raises(LevelError, match="initial network"):
        imp(Trainer(), PARAMS | {"b": np.ones(8, np.float32)}, steps=STEPS, learning_rate=np.linspace(0.2, 0.1, STEPS),
            rounds=1, rewind="3it", prunable=PRUNABLE, state={"mean": np.zeros(1, np.float32)},
            init_optimizer=lambda params: {"v": np.zeros((5, 8), np.float32)}, folder=tmp_path / "run")  # fmt: skip
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(LevelError, match="not empty"):
        _run(folder=tmp_path / "full")


def test_a_damaged_level_is_refused(tmp_path):
    _run(folder=tmp_path, rounds=1)
    record = tmp_path / "level_001" / "record.json"
    record.write_text(record.read_text().replace('"digest": "', '"digest": "0', 1))
    with pytest.raises(LevelError, match="is not the one that was saved"):
        _run(folder=tmp_path, rounds=1)
    record.write_text(record.read_text()[:50])
    with pytest.raises(LevelError, match="not whole"):
        _run(folder=tmp_path, rounds=1)


def test_masks_may_be_restructured_inside_the_loop():
    def rows(masks, network):
        return {
            "w": jnp.asarray(np.asarray(masks["w"]).any(axis=1, keepdims=True)),
            "b": masks["b"],
        }

    levels = _run(restructure=rows)
    assert levels[2].masks["w"].shape == (5, 8)


def test_a_level_that_was_trained_under_other_masks_is_refused(tmp_path):
    def flipped(axis):
        return lambda masks, network: {"w": jnp.flip(masks["w"], axis), "b": masks["b"]}

    _run(folder=tmp_path, rounds=1, restructure=flipped(0))
    with pytest.raises(LevelError, match="trained under other masks"):
        _run(folder=tmp_path, rounds=1, restructure=flipped(1))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"rate": 0}, "rate must lie strictly between"),
        ({"rate": 20}, "not a percentage"),
        ({"rounds": 0}, "at least one round must prune"),
        ({"rewind": "8it"}, "at or after the end"),
        ({"steps": 0}, "at least one step"),
        ({"save_every": 0}, "save_every=0"),
        ({"prunable": {"w": True}}, "leaf 'b' is missing"),
        ({"retrain_steps": 9, "mode": "lr_rewind"}, "at most the 8 steps"),
        ({"learning_rate": [0.1]}, "there are 8 steps"),
    ],
)
def test_wrong_input_is_told_before_training(changed, told):
    train = Trainer()
    with pytest.raises(ValueError, match=told):
        _run(train, **changed)
    assert not train.calls


def test_train_must_return_a_network_of_the_same_structure():
    with pytest.raises(ValueError, match="what train returned"):
        _run(lambda network, masks, steps, rates: network._replace(opt_state=None))
