"""The energy of parts of a run, against a stand-in for codecarbon."""

import sys
import types

import pytest

from experiments._energy import NONE, Energy, EnergyMeter


class Tracker:
    """What the meter uses of codecarbon, with counters that a test turns."""

    def __init__(self, **settings):
        type(self).settings = settings
        type(self).made = self
        self.active, self.total, self.begin = False, 0.0, 0.0

    def start_task(self):
        assert not self.active, "codecarbon ignores a task inside a task"
        self.active, self.begin = True, self.total

    def stop_task(self):
        self.active, spent = False, self.total - self.begin
        return types.SimpleNamespace(
            energy_consumed=spent, cpu_energy=spent / 2, gpu_energy=0.0, ram_energy=spent / 2
        )


@pytest.fixture
def installed(monkeypatch):
    def install(tracker=Tracker, version="3.3.2"):
        module = types.ModuleType("codecarbon")
        module.OfflineEmissionsTracker, module.__version__ = tracker, version
        monkeypatch.setitem(sys.modules, "codecarbon", module)

    return install


def test_each_block_has_its_own_energy(installed):
    installed()
    meter = EnergyMeter("--measure_energy")
    assert meter.version == "codecarbon 3.3.2"
    assert meter.last == NONE
    total = NONE
    for spent in (2.0, 4.0):
        Tracker.made.total += 100  # between the blocks
        with meter:
            Tracker.made.total += spent
        assert meter.last == Energy(spent, spent / 2, 0.0, spent / 2)
        total += meter.last
    assert total == Energy(6.0, 3.0, 0.0, 3.0)
    assert Tracker.settings["output_methods"] == []  # no file, no server


def test_a_block_that_raises_ends_its_task(installed):
    installed()
    meter = EnergyMeter("--measure_energy")
    with pytest.raises(KeyError), meter:
        raise KeyError
    assert not Tracker.made.active


def test_a_missing_or_old_package_is_a_sentence(installed, monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(
        ImportError, match=r"not installed. Install it with `pip install 'codecarbon>=3\.3'`, or"
    ):
        EnergyMeter("--measure_energy")
    installed(version="3.2.0")
    with pytest.raises(ImportError, match=r"and 3\.2\.0 is installed.*leave out --measure_energy"):
        EnergyMeter("--measure_energy")


class Broken(Tracker):
    """Codecarbon logs what went wrong at its beginning, and goes on without its fields."""

    def start_task(self):
        pass

    def stop_task(self):
        return self.never_set


class Silent(Tracker):
    def stop_task(self):
        return None


@pytest.mark.parametrize("tracker", [Broken, Silent])
def test_a_tracker_that_measures_nothing_is_a_sentence(installed, tracker):
    installed(tracker)
    with pytest.raises(ValueError, match="measures nothing on this machine"):
        EnergyMeter("--measure_energy")
