"""What experiments on channel tickets share: settings, the bench they run on, their arms' loop and checkpoints."""

from experiments.channels._bench import Bench as Bench
from experiments.channels._config import ChannelConfig as ChannelConfig
from experiments.channels._store import UnitStore as UnitStore
from experiments.channels._units import run_units as run_units

__all__ = ["Bench", "ChannelConfig", "UnitStore", "run_units"]
