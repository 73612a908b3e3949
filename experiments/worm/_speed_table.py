"""What tickets cost by the clock, from records to a table, a summary and a section of the report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report import Callout, Column, Markup, Section, Table
from experiments.training import mask_from_text
from experiments.worm._config import WormConfig
from experiments.worm._measures import History, Record
from experiments.worm._setup import Setup
from wormjax.evaluation import Samples
from wormjax.structure import plan

NETWORKS = {
    "dense": "dense",
    "masked": "masked",
    "shrunk": "shrunk",
    "narrow": "built narrow",
}

_CLOCKS = ("step_seconds", "inference_seconds")

READING = """One ticket of each arm is shrunk: the slices that belong to its pruned channels are removed from the
weights, the statistics and the program. Beside the shrunk network are timed the dense one, the masked one (full size,
pruned channels zero), and a network that is built with the ticket's widths from the start. The shares of parameters
and multiply-accumulates are what could be gained at most: on a CPU, and wherever layers are this small, the clock need
not follow them, and a narrow layer may even be slower than a wide one whose width suits the machine better."""


def speed_table(records: Sequence[Record], config: WormConfig) -> Table:
    """Return one row for each network of each ticket; what could not be shrunk is a note.

    Args:
      records: of kind ``"speed"``.
      config: the run's config.
    """
    timed = [record for record in records if "why" not in record]
    rounds = [len(s) for r in timed for clock in _CLOCKS for s in r[clock].values()]
    columns = (
        Column("Network"),
        Column("Parameters", "%", ".1f"),
        Column("MACs", "%", ".1f"),
        Column("Training step", "ms", align="right"),
        Column("over dense", align="right"),
        Column("Inference", "ms", align="right"),
        Column("over dense", align="right"),
    )
    notes = (
        f"A training step and an inference take {config.batch_size} images. Times: median and quartiles of at least "
        f"{min(rounds, default=0)} rounds in which every network has its turn. Over dense: median of the rounds' "
        "ratios, and its 95% interval.",
        "Exact: nothing flows out of the removed channels; folded: a constant does, and a bias behind takes it over; "
        "approximate: not shown to be either.",
        *map(_told, timed),
        *_without_narrow(timed),
        *failures(records),
    )
    return Table(
        "Speed of one ticket an arm",
        columns,
        tuple(row for record in timed for row in _rows(record)),
        notes if timed else tuple(failures(records)),
    )


def speed_summary(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the same as plain values for ``summary.json``, the rounds summed up.

    Args:
      records: of kind ``"speed"``.
    """
    return [
        {key: _summed(value) if key in _CLOCKS else value for key, value in record.items()}
        for record in records
    ]


def speed_section(setup: Setup, history: History, records: Sequence[Record]) -> Section:
    """Return the report's section: the table, and the plan of one ticket, WORM's where there is one.

    Args:
      setup: for the channel groups.
      history: the records of the run.
      records: those of kind ``"speed"``, at least one.
    """
    timed = [record for record in records if "why" not in record]
    blocks: list[Any] = [READING, *map(Callout, failures(records))]
    if timed:
        shown = next((r for r in timed if r["arm"] == "worm"), timed[0])
        blocks += [
            speed_table(timed, setup.config),
            f"What goes with the pruned channels of {_name(shown)}, group by group:",
            Markup(_plan_of(setup, history, shown).to_html()),
        ]
    return Section("What it costs by the clock", blocks)


def failures(records: Sequence[Record]) -> list[str]:
    """Return a sentence for each ticket that could not be shrunk.

    Args:
      records: of kind ``"speed"``.
    """
    return [f"{_name(r)} could not be shrunk: {r['why']}" for r in records if "why" in r]


def _plan_of(setup: Setup, history: History, record: Record) -> Any:
    """Decide again what a ticket removes, from its recorded mask."""
    drawn = history.searched(record["arm"], record["seed"])
    emerged = next(r for r in drawn if r["emerged"])
    flat = mask_from_text(emerged["mask"], sum(setup.widths))
    return plan(setup.groups, masks=setup.mask_tree(flat))


def _rows(record: Record) -> list[tuple[Any, ...]]:
    steps, calls = (Samples(record[clock]) for clock in _CLOCKS)
    rows = []
    for network, title in NETWORKS.items():
        if network not in steps.seconds:
            continue
        small = network in ("shrunk", "narrow")
        shares = (100 * record[key][small] / record[key][0] for key in ("parameters", "macs"))
        clocks = (cell(s, network) for s in (steps, calls) for cell in (_time, _ratio))
        rows.append((f"{_name(record)}: {title}", *shares, *clocks))
    return rows


def _time(samples: Samples, network: str) -> str:
    low, high = samples.quartiles(network)
    return f"{1e3 * samples.median(network):.3g} ({1e3 * low:.3g}–{1e3 * high:.3g})"


def _ratio(samples: Samples, network: str) -> str | None:
    if network == "dense":
        return None
    ratio = samples.ratio(network, "dense")
    return f"{ratio.median:.2f} [{ratio.interval[0]:.2f}, {ratio.interval[1]:.2f}]"


def _summed(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    samples = Samples(seconds)
    return {
        network: {
            "median": samples.median(network),
            "quartiles": samples.quartiles(network),
            "rounds": len(times),
            "over_dense": samples.ratio(network, "dense"),
        }
        for network, times in seconds.items()
    }


def _told(record: Record) -> str:
    """Say what is lost with a ticket's removed channels, and what was measured of it."""
    kinds = Counter(kind for kind, _ in record["losses"].values())
    groups = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    whys = [f"{name}: {why}" for name, (kind, why) in record["losses"].items() if kind != "exact"]
    told = (
        f"{_name(record)}: channels go from {kinds.total()} groups ({'; '.join([groups, *whys])}); its logits differ "
        f"from the masked network's by {record['difference']:.0e} of the largest."
    )
    if record["still_masked"]:
        told += (
            f" {record['still_masked']} masked entries stay, in channels that another layer keeps."
        )
    return told


def _without_narrow(records: Sequence[Record]) -> list[str]:
    reasons = dict.fromkeys(r["no_narrow"] for r in records if r["no_narrow"])
    return [f"No network is built narrow: {why}" for why in reasons]


def _name(record: Record) -> str:
    return f"{record['arm']}, seed {record['seed']}"
