"""Defects of the references' command lines and drivers that one parser and one runner cannot have."""

import ast
import dataclasses
from pathlib import Path

import pytest

from experiments._cli import parse
from experiments.dst_criteria._config import PRESETS as DST_PRESETS
from experiments.dst_criteria._config import DstConfig
from experiments.early_bird._config import PRESETS as EARLY_BIRD_PRESETS
from experiments.early_bird._config import EarlyBirdConfig
from experiments.foresight._config import PRESETS as FORESIGHT_PRESETS
from experiments.foresight._config import ForesightConfig
from experiments.worm._config import WormConfig
from experiments.worm._presets import PRESETS as WORM_PRESETS

CONFIGS = {
    "early_bird": (EarlyBirdConfig, EARLY_BIRD_PRESETS),
    "worm": (WormConfig, WORM_PRESETS),
    "dst_criteria": (DstConfig, DST_PRESETS),
    "foresight": (ForesightConfig, FORESIGHT_PRESETS),
}
ROOT = Path(__file__).resolve().parents[2] / "experiments"


def read(name, *argv, **changed):
    config, _ = CONFIGS[name]
    presets = {"made": config(**changed)}
    return parse(config, presets, list(argv), prog="", description="")


@pytest.mark.parametrize("name", CONFIGS)
def test_eb_d13_a_switch_that_is_set_to_false_is_off(name, capsys):
    """The reference reads its switch as text, and every text is true."""  # foresight's defect 18, too
    fields = dataclasses.fields(CONFIGS[name][0])
    switches = [f.name for f in fields if f.type in (bool, "bool")]
    assert {"resume", "augment"} <= set(switches)
    for switch in switches:
        assert getattr(read(name, f"--{switch}", **{switch: False}), switch) is True
        assert getattr(read(name, f"--no_{switch}", **{switch: True}), switch) is False
        with pytest.raises(SystemExit) as left:  # a text is no value of a switch, be it "False"
            read(name, f"--{switch}", "False")
        assert left.value.code == 2
    capsys.readouterr()


def test_w_d12_one_runner_and_what_it_runs_is_a_config():
    """The reference has a copied driver for each network, with numbers of its own."""
    for name, (config, presets) in CONFIGS.items():
        assert all(type(preset) is config for preset in presets.values())
        main = ast.parse((ROOT / name / "__main__.py").read_text())
        calls = [n for n in ast.walk(main) if isinstance(n, ast.Call)]
        assert sum(getattr(n.func, "id", "") == "launch" for n in calls) == 1
    # the target of the reference's comment is 80%, that of its code 90%: here it has one place
    assert WormConfig().target == 0.9
    places = [
        path.name
        for path in (ROOT / "worm").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value == 0.9 and not isinstance(node.value, bool)
    ]
    assert places.count("_config.py") >= 1
    assert set(places) <= {"_config.py", "_presets.py"}
