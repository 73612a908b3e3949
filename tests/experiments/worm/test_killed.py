"""SIGKILL at any moment and ``--resume`` give the bits of a run that was never stopped."""

import functools
import json
import shutil

import pytest

from tests.experiments import processes
from tests.experiments.processes import finish, kill_when

pytestmark = pytest.mark.slow  # five starts of the job

start = functools.partial(processes.start, "worm")
ARGS = ("--arms", "standard", "worm", "--seeds", "1", "--checkpoint_seconds", "0")
STORES = [f"{arm}-0-{phase}" for arm in ("standard", "worm") for phase in ("search", "retrain")]


def lines(path, *, arm, phase):
    """How many epochs of an arm and phase are on record."""
    file = path / "metrics.jsonl"
    text = file.read_text() if file.exists() else ""
    return text.count(f'"phase": "{phase}", "arm": "{arm}"')


def numbers(store):
    """The complete checkpoints of a store, and the drafts beside them."""
    names = sorted(p.name for p in store.iterdir()) if store.is_dir() else []
    return [n for n in names if n.isdecimal()], [n for n in names if n.startswith(".writing-")]


@pytest.fixture(scope="module")
def runs(worm, tmp_path_factory):
    """An uninterrupted run, one that was killed three times, and that one before its last resume."""
    folder = tmp_path_factory.mktemp("killed")
    whole, cut, copy = folder / "whole", folder / "cut", folder / "copy"
    flags = (*worm.tiny, *ARGS)
    uninterrupted = start(whole, *flags)

    # in the search, with a checkpoint behind it; and a line torn in its middle
    begun = start(cut, *flags)
    kill_when(begun, cut, lambda: lines(cut, arm="standard", phase="search") >= 3)
    assert numbers(cut / "checkpoints" / "standard-0-search")[0]
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "epoch", "phase": "sea')

    # while a checkpoint is being written
    store = cut / "checkpoints" / "worm-0-search"
    kill_when(start(cut, *flags, "--resume"), cut, lambda: all(numbers(store)))
    complete, drafts = numbers(store)
    assert complete
    assert drafts

    # in the retraining, whose newest checkpoint is then lost
    resumed = start(cut, *flags, "--resume")
    kill_when(resumed, cut, lambda: lines(cut, arm="worm", phase="retrain") >= 2)
    shutil.copytree(cut, copy)
    store = cut / "checkpoints" / "worm-0-retrain"
    [*others, lost] = numbers(store)[0]
    assert others
    shutil.rmtree(store / lost)

    finish(start(cut, *flags, "--resume"), cut)
    finish(uninterrupted, whole)
    return whole, cut, copy


def untimed(value):
    """A record without its clocks."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if "seconds" not in k and k != "timing"}
    return [untimed(v) for v in value] if isinstance(value, list) else value


def test_records_masks_and_weights_are_bit_identical(runs):
    whole, cut, _ = runs
    records = [
        [untimed(json.loads(line)) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (whole, cut)
    ]
    assert records[0] == records[1]
    results = [r for r in records[0] if r["kind"] == "result"]
    assert [r["arm"] for r in results] == ["standard", "worm"]
    assert all(len(r["weights"]) == 64 for r in results)
    assert sum("mask" in r for r in records[0]) > 5


@pytest.mark.parametrize("store", STORES)
def test_the_last_checkpoints_hold_the_same_bits(runs, store):
    """Weights, statistics, optimizer, detector, keys and counters: every leaf's checksum."""
    manifests = []
    for path in runs[:2]:
        folder = path / "checkpoints" / store
        last = folder / numbers(folder)[0][-1]
        manifests.append(json.loads((last / "manifest.json").read_text()))
    assert manifests[0]["leaves"] == manifests[1]["leaves"]
    assert untimed(manifests[0]["position"]) == untimed(manifests[1]["position"])
    assert len(manifests[0]["leaves"]) > 20


def test_the_summaries_agree(runs):
    whole, cut = (json.loads((p / "summary.json").read_text()) for p in runs[:2])
    assert untimed(whole) == untimed(cut)


def test_each_start_is_on_record_and_no_draft_is_left(runs):
    _, cut, copy = runs
    assert len(json.loads((copy / "config.json").read_text())["resumed"]) == 2
    assert len(json.loads((cut / "config.json").read_text())["resumed"]) == 3
    assert not list(cut.rglob(".writing-*"))


@pytest.fixture
def interrupted(runs, tmp_path):
    """A copy of the run that was killed in its last arm's retraining."""
    shutil.copytree(runs[2], tmp_path / "run")
    return tmp_path / "run"


def newest(path):
    store = path / "checkpoints" / "worm-0-retrain"
    return store / numbers(store)[0][-1]


def largest_array(path):
    return max((p for p in newest(path).rglob("d/*")), key=lambda p: p.stat().st_size)


def cut_an_array(path):
    file = largest_array(path)
    file.write_bytes(file.read_bytes()[:-100])
    return newest(path).name, "is damaged", file.name, "Remove that folder to go on from"


def flip_a_bit(path):
    file = largest_array(path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return newest(path).name, "is damaged", file.name, "Remove that folder to go on from"


def remove_the_manifest(path):
    (newest(path) / "manifest.json").unlink()
    return newest(path).name, "is damaged", "manifest.json is missing"


def put_another_arms_checkpoint(path):
    store = path / "checkpoints" / "worm-0-retrain"
    shutil.rmtree(store)
    shutil.copytree(path / "checkpoints" / "standard-0-retrain", store)
    return "belongs to another run", "'arm' is 'standard' there and 'worm' here"


def cut_the_records(path):
    file = path / "metrics.jsonl"
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    return "metrics.jsonl has 1 complete records, but the checkpoint was written after", "put the"


def write_no_record(path):
    (path / "metrics.jsonl").write_text('{"kind": "epoch"}\nnonsense\n')
    return "Line 1 of", "is not a record", "pass another --out DIR"


@pytest.mark.parametrize(
    "damage",
    [
        cut_an_array,
        flip_a_bit,
        remove_the_manifest,
        put_another_arms_checkpoint,
        cut_the_records,
        write_no_record,
    ],
)
def test_a_damaged_run_is_one_sentence(worm, interrupted, damage):
    words = damage(interrupted)
    run = worm(interrupted, *worm.tiny, *ARGS, "--resume")
    assert run.code == 2
    [sentence] = run.err.splitlines()
    assert sentence.startswith("python -m experiments.worm: ")
    for word in words:
        assert word in sentence
    assert "Traceback" not in run.out


def test_a_resume_with_other_settings_is_one_sentence(worm, interrupted):
    run = worm(interrupted, *worm.tiny, *ARGS, "--resume", "--prune_ratio", "0.3")
    assert run.code == 2
    [sentence] = run.err.splitlines()
    assert "prune_ratio (0.5 in the folder, 0.3 now)" in sentence
    assert "config.json" in sentence
