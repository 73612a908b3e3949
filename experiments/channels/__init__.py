"""What experiments on channel tickets share: settings, the bench they run on, and their arms' loop."""

from experiments.channels._bench import Bench as Bench
from experiments.channels._config import ChannelConfig as ChannelConfig
from experiments.channels._units import run_units as run_units

__all__ = ["Bench", "ChannelConfig", "run_units"]
