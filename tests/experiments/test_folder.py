import dataclasses
import json
import os

import pytest

from experiments import _folder
from experiments._cli import RunConfig
from experiments._folder import FolderError, RunFolder


@dataclasses.dataclass(frozen=True)
class Model:
    depth: int = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    ratio: float = 0.5
    model: Model = Model()


def config(out=None, **changes):
    return dataclasses.replace(Config(preset="digits", out=out), **changes)


def opened(path, **changes):
    return RunFolder.open("worm", config(path, **changes), ["--out", str(path), "--ratio", "0.5"])


def test_the_default_folder_names_experiment_and_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = RunFolder.open("worm", config(), [])
    assert str(folder.path) == "runs/worm-digits"
    assert (tmp_path / "runs/worm-digits/config.json").exists()
    assert not folder.resumed


def test_config_json_says_what_was_run_and_names_no_folder(tmp_path):
    folder = opened(tmp_path / "a", seeds=5)
    text = folder.config.read_text()
    record = json.loads(text)
    assert record["experiment"] == "worm"
    assert record["config"] == {"model": {"depth": 2}, "preset": "digits", "ratio": 0.5, "seeds": 5}
    assert record["command"] == "python -m experiments.worm --ratio 0.5"
    assert record["versions"]["jax"]
    assert record["hardware"]["backend"] == "cpu"
    assert record["resumed"] == []
    assert str(tmp_path) not in text
    assert folder.provenance() == record


def test_the_files_of_a_run(tmp_path):
    folder = opened(tmp_path)
    paths = [folder.metrics, folder.summary, folder.report, folder.checkpoints, folder.figures]
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "metrics.jsonl", "summary.json", "report.html", "checkpoints", "figures",
    ]  # fmt: skip
    assert os.listdir(tmp_path) == ["config.json"]


def test_a_folder_with_files_is_refused_without_resume(tmp_path):
    opened(tmp_path)
    with pytest.raises(FolderError, match=r"is not empty; pass --resume .* or another --out DIR"):
        opened(tmp_path)


@pytest.mark.parametrize("make", [True, False])
def test_resume_of_an_empty_or_missing_folder_starts_afresh(tmp_path, make):
    path = tmp_path / "run"
    if make:
        path.mkdir()
    assert opened(path, resume=True).resumed is False
    assert opened(path, resume=True).resumed is True


def test_resume_of_an_equal_config_keeps_the_first_record_and_adds_the_start(tmp_path, monkeypatch):
    first = opened(tmp_path).provenance()
    monkeypatch.setattr(_folder, "versions", lambda: {**first["versions"], "jax": "9.9"})
    folder = opened(tmp_path, resume=True)
    record = folder.provenance()
    assert {**record, "resumed": []} == first
    assert [start["versions"]["jax"] for start in record["resumed"]] == ["9.9"]
    jax_version = first["versions"]["jax"]
    assert folder.notes == (
        f'versions.jax was "{jax_version}" at the run\'s first start and is "9.9"; results may not '
        "repeat bit for bit.",
    )


def test_resume_with_other_settings_names_each_of_them(tmp_path):
    opened(tmp_path)
    with pytest.raises(FolderError) as error:
        opened(tmp_path, resume=True, ratio=0.3, model=Model(3))
    assert (
        "holds a run with other settings: model.depth (2 in the folder, 3 now); ratio (0.5 in the "
        "folder, 0.3 now). Resume with the settings in its config.json, or pass another --out DIR."
    ) in str(error.value)
    assert json.loads((tmp_path / "config.json").read_text())["config"]["ratio"] == 0.5


def test_a_setting_that_the_folder_does_not_know_is_named(tmp_path):
    opened(tmp_path)
    path = tmp_path / "config.json"
    record = json.loads(path.read_text())
    del record["config"]["ratio"]
    path.write_text(json.dumps(record))
    with pytest.raises(FolderError, match=r"ratio \(absent in the folder, 0.5 now\)"):
        opened(tmp_path, resume=True)


def test_another_experiments_folder_is_refused(tmp_path):
    opened(tmp_path)
    with pytest.raises(FolderError, match="holds a run of 'worm', not of 'dst'"):
        RunFolder.open("dst", config(tmp_path, resume=True), [])


@pytest.mark.parametrize(
    "text", ["{", "[]", "null", '{"experiment": "worm"}', '{"experiment": "worm", "config": 3}']
)
def test_a_damaged_config_json_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(FolderError, match=r"config.json cannot be read as the record of a run"):
        opened(tmp_path, resume=True)


def test_foreign_files_are_refused_even_with_resume(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(FolderError, match=r"has files but no config.json"):
        opened(tmp_path, resume=True)


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(FolderError, match="is a file, not a folder"):
        opened(tmp_path / "run")


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        FolderError, match=r"file/run cannot be made \(.+\); pass another --out DIR"
    ):
        opened(tmp_path / "file" / "run")


def test_check_refuses_what_open_refuses_and_writes_nothing(tmp_path):
    RunFolder.check("worm", config(tmp_path / "run"))
    assert os.listdir(tmp_path) == []
    opened(tmp_path / "run")
    with pytest.raises(FolderError, match="is not empty"):
        RunFolder.check("worm", config(tmp_path / "run"))
    RunFolder.check("worm", config(tmp_path / "run", resume=True))
    with pytest.raises(FolderError, match="other settings"):
        RunFolder.check("worm", config(tmp_path / "run", resume=True, ratio=0.1))
    RunFolder.check("worm", config(tmp_path / "run"), process_index=1)


def test_a_kill_while_a_file_is_replaced_leaves_the_old_one(tmp_path, monkeypatch):
    folder = opened(tmp_path)
    folder.write_summary({"arms": [1]})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_folder.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.write_summary({"arms": [2]})
    assert json.loads(folder.summary.read_text()) == {"arms": [1]}


def test_a_kill_during_the_very_first_write_can_be_resumed(tmp_path):
    (tmp_path / ".config.json.tmp").write_text('{"exp')
    assert opened(tmp_path).resumed is False
    assert os.listdir(tmp_path) == ["config.json"]


def test_summary_and_report_are_written(tmp_path):
    folder = opened(tmp_path)
    folder.write_summary({"b": float("nan"), "a": (1, 2)})
    folder.write_report("<p>é</p>")
    assert folder.summary.read_text() == '{\n  "a": [\n    1,\n    2\n  ],\n  "b": "nan"\n}\n'
    assert folder.report.read_text(encoding="utf-8") == "<p>é</p>"


def test_other_processes_neither_check_nor_write(tmp_path):
    opened(tmp_path)
    before = (tmp_path / "config.json").read_text()
    folder = RunFolder.open("worm", config(tmp_path, ratio=0.1), [], process_index=1)
    folder.write_summary({})
    folder.write_report("")
    assert (folder.path, folder.writes) == (tmp_path, False)
    assert os.listdir(tmp_path) == ["config.json"]
    assert (tmp_path / "config.json").read_text() == before


def test_records_are_read_up_to_the_torn_line(tmp_path):
    folder = opened(tmp_path / "run")
    assert folder.records() == []
    folder.metrics.write_text('{"kind": "epoch", "arm": "worm", "seed": 0}\n{"kind": "ep')
    assert folder.records() == [{"kind": "epoch", "arm": "worm", "seed": 0}]


@pytest.mark.parametrize("line", ["nonsense", "[]", "3", '{"kind": "epoch"}', "\x00"])
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    folder = opened(tmp_path / "run")
    folder.metrics.write_text(f'{{"kind": "epoch", "arm": "worm", "seed": 0}}\n{line}\n')
    with pytest.raises(FolderError, match=r"Line 2 of .* is not a record of this run"):
        folder.records()
