"""What experiments on channel tickets share: settings, the bench they run on, their checkpoints."""

from experiments.channels._bench import Bench as Bench
from experiments.channels._config import ChannelConfig as ChannelConfig
from experiments.channels._store import UnitStore as UnitStore

__all__ = ["Bench", "ChannelConfig", "UnitStore"]
