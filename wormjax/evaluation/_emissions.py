"""Electricity and carbon dioxide of a run, from its time and two constants that are written down with it."""

from typing import NamedTuple

Number = float | int


class Emissions(NamedTuple):
    """What a run emitted, with every constant that went in.

    Attributes:
      kg: carbon dioxide equivalent.
      kwh: electricity.
      hours: time of the run.
      power_kw: mean power.
      kg_per_kwh: intensity of the grid.
    """

    kg: Number
    kwh: Number
    hours: Number
    power_kw: Number
    kg_per_kwh: Number


def emissions(*, hours: Number, power_kw: Number, kg_per_kwh: Number) -> Emissions:
    r"""Return what a run emits.

    .. math:: m = t \, P \, c

    A calculator and no power meter. There are no defaults: the power of a device and the intensity of a grid are the
    caller's to say, and they come back with the result. Compilation is time like any other; leave it out of ``hours``
    and say so, or leave it in.

    Args:
      hours: time of the run.
      power_kw: mean power, kilowatts.
      kg_per_kwh: intensity of the grid, kilograms of carbon dioxide equivalent for each kilowatt hour.

    Raises:
      ValueError: a negative number.

    Example:
      >>> round(emissions(hours=2, power_kw=0.25, kg_per_kwh=0.4).kg, 6)
      0.2

    References:
      Lacoste et al., `Quantifying the Carbon Emissions of Machine Learning <https://arxiv.org/abs/1910.09700>`_, 2019
    """
    told = {"hours": hours, "power_kw": power_kw, "kg_per_kwh": kg_per_kwh}
    for name, value in told.items():
        if not value >= 0:
            raise ValueError(f"{name}={value} must not be negative.")
    kwh = hours * power_kw
    return Emissions(kwh * kg_per_kwh, kwh, **told)


def emissions_saved(dense_kg: Number, ticket_kg: Number, round_kg: int | None = None) -> float:
    r"""Return by how many percent a ticket emits less.

    .. math:: 100 \, \Bigl( 1 - \frac{m_{ticket}}{m_{dense}} \Bigr)

    Args:
      dense_kg: of the dense network.
      ticket_kg: of the ticket.
      round_kg: round both to so many decimals first, as the layer-ticket paper did (2); None for full precision.

    Raises:
      ValueError: the dense network emits nothing.

    Example:
      >>> round(emissions_saved(0.2713, 0.2401, round_kg=2), 2)
      11.11
    """
    if round_kg is not None:
        dense_kg, ticket_kg = round(dense_kg, round_kg), round(ticket_kg, round_kg)
    if not dense_kg > 0:
        raise ValueError(
            f"emissions_saved got dense_kg={dense_kg}: nothing can be saved of nothing. Give more time, or round less."
        )
    return 100 * (1 - ticket_kg / dense_kg)
