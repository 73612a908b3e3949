"""Which units run, and which records stay, after a run was interrupted."""

import json

import pytest

from experiments._folder import RunFolder
from experiments._units import run_units
from experiments.training import CheckpointError, MetricsLog

UNITS = [("a", [0]), ("a", [1]), ("b", [0])]


def _begun(ran, fails=(), positions=None, die_in=None):
    def begin(arm, seeds):
        position = (positions or {}).get(arm)

        def run(log: MetricsLog) -> None:
            ran.append((arm, tuple(seeds), "fresh" if position is None else "restored"))
            log.write({"kind": "epoch", "arm": arm, "seed": seeds[0]})
            if arm == die_in:
                raise KeyboardInterrupt
            if arm in fails:
                raise ValueError(f"{arm} diverged")
            log.write({"kind": "result", "arm": arm, "seed": seeds[0]})

        return position, run

    return begin


class Told(list):
    """Stands for the progress display, of which only notes are asked."""

    note = list.append


def _kinds(folder):
    return [(r["kind"], r["arm"], r["seed"]) for r in folder.records()]


def test_all_run_in_order_and_a_second_start_does_nothing(tmp_path):
    folder, ran = RunFolder(tmp_path), []
    assert run_units(folder, Told(), UNITS, _begun(ran)) == {}
    assert ran == [("a", (0,), "fresh"), ("a", (1,), "fresh"), ("b", (0,), "fresh")]
    again = []
    assert run_units(folder, Told(), UNITS, _begun(again)) == {}
    assert again == []
    assert len(_kinds(folder)) == 6


def test_what_was_interrupted_goes_on_and_lost_records_are_written_again(tmp_path):
    folder, ran = RunFolder(tmp_path), []
    with pytest.raises(KeyboardInterrupt):
        run_units(folder, Told(), UNITS, _begun(ran, die_in="b"))
    assert _kinds(folder)[-1] == ("epoch", "b", 0)
    ran.clear()
    run_units(folder, Told(), UNITS, _begun(ran))  # no checkpoint: b begins anew
    assert ran == [("b", (0,), "fresh")]
    assert _kinds(folder) == [
        *(("epoch", "a", 0), ("result", "a", 0), ("epoch", "a", 1), ("result", "a", 1)),
        *(("epoch", "b", 0), ("result", "b", 0)),
    ]
    folder.metrics.write_text(
        "".join(line + "\n" for line in folder.metrics.read_text().splitlines()[:5])
    )
    ran.clear()
    run_units(folder, Told(), UNITS, _begun(ran, positions={"b": 5}))  # its checkpoint knows 5
    assert ran == [("b", (0,), "restored")]
    assert len(_kinds(folder)) == 7


def test_an_arm_that_fails_is_given_up_and_the_others_go_on(tmp_path):
    folder, ran, told = RunFolder(tmp_path), [], Told()
    failures = run_units(folder, told, UNITS, _begun(ran, fails=("a",)))
    assert failures == {"a": "a diverged"}
    assert [arm for arm, _, _ in ran] == ["a", "b"]
    assert told == ["a, seeds [0]: a diverged"]
    assert json.loads(folder.metrics.read_text().splitlines()[1])["why"] == "a diverged"
    assert run_units(folder, Told(), UNITS, _begun([])) == {"a": "a diverged"}  # remembered


def test_an_arm_that_cannot_begin_is_given_up_and_loses_what_it_had_begun(tmp_path):
    folder, ran, told = RunFolder(tmp_path), [], Told()
    with pytest.raises(KeyboardInterrupt):
        run_units(folder, Told(), UNITS, _begun([], die_in="a"))

    def begin(arm, seeds):
        if arm == "a":
            raise ValueError("its weights are not there")
        return _begun(ran)(arm, seeds)

    assert run_units(folder, told, UNITS, begin) == {"a": "its weights are not there"}
    assert told == ["a, seeds [0]: its weights are not there"]
    assert ran == [("b", (0,), "fresh")]
    assert _kinds(folder) == [("failure", "a", 0), ("epoch", "b", 0), ("result", "b", 0)]


def test_a_damaged_checkpoint_ends_the_run(tmp_path):
    folder = RunFolder(tmp_path)

    def begin(arm, seeds):
        raise CheckpointError("it is damaged")

    with pytest.raises(CheckpointError, match="it is damaged"):
        run_units(folder, Told(), UNITS, begin)
    assert not folder.metrics.exists()
