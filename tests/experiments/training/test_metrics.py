import json

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training import CheckpointError, MetricsLog


def test_records_are_strict_json_one_a_line(tmp_path):
    path = tmp_path / "deep" / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write({"arm": "worm", "loss": jnp.float32(0.5), "widths": np.arange(3)})
        log.write({"loss": float("inf"), "nested": {"x": (1, jnp.array([jnp.nan, 2.0]))}})
        assert log.sync() == 2
    lines = path.read_text().splitlines()
    assert json.loads(lines[0]) == {"arm": "worm", "loss": 0.5, "widths": [0, 1, 2]}
    assert json.loads(lines[1]) == {"loss": None, "nested": {"x": [1, [None, 2.0]]}}


@pytest.mark.parametrize(
    "tail", [b"", b'{"epoch": 3', b"\x00\xff", b'{"epoch": 3}\n{"epoch": 4}\n{"e']
)
def test_a_resumed_file_is_as_if_never_stopped(tmp_path, tail):
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    with MetricsLog(whole) as log:
        for epoch in range(6):
            log.write({"epoch": epoch})
    with MetricsLog(cut) as log:
        for epoch in range(3):
            log.write({"epoch": epoch})
    with cut.open("ab") as file:
        file.write(tail)
    with MetricsLog(cut, records=2) as log:
        assert log.records == 2
        for epoch in range(2, 6):
            log.write({"epoch": epoch})
    assert cut.read_bytes() == whole.read_bytes()


def test_resuming_before_the_first_record(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path, records=0) as log:
        log.write({"epoch": 0})
    with MetricsLog(path, records=0) as log:
        assert log.records == 0
    assert path.read_bytes() == b""


def test_a_second_run_does_not_write_into_the_first(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write({"epoch": 0})
    with pytest.raises(FileExistsError, match=r"already holds records\. Resume that run"):
        MetricsLog(path)
    assert path.read_text() == '{"epoch": 0}\n'


@pytest.mark.parametrize("content", [None, '{"epoch": 0}\n{"epoch": 1'])
def test_a_file_shorter_than_the_checkpoint_is_a_sentence(tmp_path, content):
    path = tmp_path / "metrics.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(
        CheckpointError, match="complete records, but the checkpoint was written after 2"
    ):
        MetricsLog(path, records=2)
    if content is not None:
        assert path.read_text() == content


def test_closing_twice_is_harmless(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl")
    log.close()
    log.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        log.write({})
