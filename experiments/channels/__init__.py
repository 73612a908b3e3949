"""What experiments on channel tickets share: settings, the bench they run on, their checkpoints."""

from experiments._unit_store import UnitStore as UnitStore
from experiments.channels._bench import Bench as Bench
from experiments.channels._config import ChannelConfig as ChannelConfig

__all__ = ["Bench", "ChannelConfig", "UnitStore"]
