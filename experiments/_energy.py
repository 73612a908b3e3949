"""Energy of parts of a run as codecarbon tells it; an optional package, read when it is asked for."""

from types import TracebackType
from typing import Any, NamedTuple

REMEDY = (
    "Energy is measured by codecarbon, {what}. Install it with `pip install 'codecarbon>=3.3'`, or leave "
    "out {flag}."
)


class Energy(NamedTuple):
    """Electricity of a part of a run, in kilowatt hours.

    Attributes:
      kwh: of everything.
      cpu: of the processors.
      gpu: of the accelerators.
      ram: of the memory.
    """

    kwh: float
    cpu: float
    gpu: float
    ram: float

    def __add__(self, other: "Energy") -> "Energy":  # type: ignore[override]
        """Return the energy of two parts."""
        return Energy(*(a + b for a, b in zip(self, other, strict=True)))


NONE = Energy(0.0, 0.0, 0.0, 0.0)


class EnergyMeter:
    """Tells the energy of each ``with`` block.

    Its counters are those of the machine, so that other work on it counts too. A processor without a counter of its
    energy, and memory, are estimated by codecarbon from their load and their kind. It is told to write no file and to
    ask no server; carbon dioxide is ours to reckon, with an intensity that stands in the configuration.

    Args:
      flag: the switch that asked for it, for messages.

    Attributes:
      version: what measures, with its version.
      last: energy of the block before.

    Raises:
      ImportError: codecarbon is not installed, or older than 3.3.
      ValueError: it finds nothing to read on this machine.
    """

    def __init__(self, flag: str):
        try:
            import codecarbon  # an optional package
        except ImportError as error:
            raise ImportError(REMEDY.format(what="which is not installed", flag=flag)) from error
        number = codecarbon.__version__
        if tuple(int(n) for n in number.split(".")[:2]) < (3, 3):
            raise ImportError(REMEDY.format(what=f"and {number} is installed", flag=flag))
        self.version = f"codecarbon {number}"
        self.last = NONE
        self._flag = flag
        # an intensity of zero asks for none: the tracker neither looks a country up nor waits for a network
        self._tracker: Any = codecarbon.OfflineEmissionsTracker(
            output_methods=[],
            force_carbon_intensity_g_co2e_kwh=0.0,
            allow_multiple_runs=True,
            log_level="error",
        )
        with self:  # it logs its errors and goes on, and looks for the hardware at its first task
            pass

    def __enter__(self) -> "EnergyMeter":
        self._tracker.start_task()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            told = self._tracker.stop_task()
        except AttributeError:  # the tracker's beginning failed: it has no fields, and said so
            told = None
        if told is None:
            if error is not None:
                return
            raise ValueError(
                f"{self.version} measures nothing on this machine; its log says why. Leave out {self._flag}."
            )
        parts = told.energy_consumed, told.cpu_energy, told.gpu_energy, told.ram_energy
        self.last = Energy(*map(float, parts))
