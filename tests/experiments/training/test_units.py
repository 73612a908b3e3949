"""Which units run, and which records stay, after a run was interrupted."""

import json

import pytest

from experiments.training import MetricsLog, Unit, read_records, run_units

UNITS = [("a", [0]), ("a", [1]), ("b", [0])]


def _opened(ran, fails=(), positions=None, die_in=None):
    def open_unit(arm, seeds):
        def run(log: MetricsLog, start: str) -> None:
            ran.append((arm, tuple(seeds), start))
            log.write({"kind": "epoch", "arm": arm, "seed": seeds[0]})
            if arm == die_in:
                raise KeyboardInterrupt
            if arm in fails:
                raise ValueError(f"{arm} diverged")
            log.write({"kind": "result", "arm": arm, "seed": seeds[0]})

        position = (positions or {}).get(arm)
        return Unit(lambda: ("restored" if position is not None else "fresh", position), run)

    return open_unit


def _kinds(path):
    return [(r["kind"], r["arm"], r["seed"]) for r in read_records(path)]


def test_all_run_in_order_and_a_second_start_does_nothing(tmp_path):
    path, ran = tmp_path / "metrics.jsonl", []
    assert run_units(UNITS, _opened(ran), path, print) == {}
    assert ran == [("a", (0,), "fresh"), ("a", (1,), "fresh"), ("b", (0,), "fresh")]
    again = []
    assert run_units(UNITS, _opened(again), path, print) == {}
    assert again == []
    assert len(_kinds(path)) == 6


def test_what_was_interrupted_goes_on_and_lost_records_are_written_again(tmp_path):
    path, ran = tmp_path / "metrics.jsonl", []
    with pytest.raises(KeyboardInterrupt):
        run_units(UNITS, _opened(ran, die_in="b"), path, print)
    assert _kinds(path)[-1] == ("epoch", "b", 0)
    ran.clear()
    run_units(UNITS, _opened(ran), path, print)  # no checkpoint: b begins anew
    assert ran == [("b", (0,), "fresh")]
    assert _kinds(path) == [
        *(("epoch", "a", 0), ("result", "a", 0), ("epoch", "a", 1), ("result", "a", 1)),
        *(("epoch", "b", 0), ("result", "b", 0)),
    ]
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:5]))
    ran.clear()
    run_units(UNITS, _opened(ran, positions={"b": 5}), path, print)  # its checkpoint knows 5
    assert ran == [("b", (0,), "restored")]
    assert len(_kinds(path)) == 7


def test_an_arm_that_fails_is_given_up_and_the_others_go_on(tmp_path):
    path, ran, told = tmp_path / "metrics.jsonl", [], []
    failures = run_units(UNITS, _opened(ran, fails=("a",)), path, told.append)
    assert failures == {"a": "a diverged"}
    assert [arm for arm, _, _ in ran] == ["a", "b"]
    assert told == ["a, seeds [0]: a diverged"]
    assert json.loads(path.read_text().splitlines()[1])["why"] == "a diverged"
    assert run_units(UNITS, _opened([]), path, print) == {"a": "a diverged"}  # remembered
