"""Pictures of the study of layer tickets."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.layer_tickets._config import DENSE, Arm, LayerConfig
from experiments.layer_tickets._measures import METRICS, Measured, flops_saved
from experiments.report import (
    ArmStyle,
    accuracy_by_blocks,
    accuracy_by_rewind_epoch,
    arm_styles,
    numbers,
    robustness_bars,
    speedup_against_flops,
)


def kinds_at_initialisation(config: LayerConfig) -> list[str]:
    """Return the kinds of arms that are not rewound, the dense network left out."""
    return list(
        dict.fromkeys(arm.kind for arm in config.arms if arm != DENSE and arm.rewind_to is None)
    )


def middle(values: Sequence[int]) -> int:
    """Return the value that stands for all where only one can be shown."""
    return values[len(values) // 2]


def pictures(measured: Measured, config: LayerConfig) -> dict[str, Figure]:
    """Return the report's figures by name."""
    kinds = [
        kind
        for kind in kinds_at_initialisation(config)
        if any(Arm(kind, p) in measured for p in config.removed)
    ]
    rewound = [
        kind
        for kind in config.trained
        if any(Arm(kind, p, i) in measured for p in config.removed for i in config.rewind_to)
    ]
    named = {kind: f"{kind} from {middle(config.rewind_to)}" for kind in rewound}
    styles = arm_styles(["dense", *kinds, *named.values()])
    made = {}
    if kinds:
        made["accuracy_by_blocks"] = _by_blocks(measured, config, kinds, styles)
    of_rewound = {"dense": styles["dense"]} | {kind: styles[named[kind]] for kind in rewound}
    for p in config.removed:
        curves = _by_epoch(measured, config, rewound, p)
        if curves:
            made[f"accuracy_by_rewind_epoch_{p}"] = accuracy_by_rewind_epoch(
                curves, dense=numbers(measured[DENSE]["accuracy"]), styles=of_rewound
            )
    p, epoch = middle(config.removed), middle(config.rewind_to)
    bars = {"dense": DENSE} | {kind: Arm(kind, p) for kind in kinds}
    bars |= {name: Arm(kind, p, epoch) for kind, name in named.items()}
    made["robustness"] = _robustness(measured, bars, styles)
    points = _speedups(measured, config, kinds)
    if points:
        made["speedup"] = speedup_against_flops(points, styles=styles)
    return made


def _by_blocks(
    measured: Measured, config: LayerConfig, kinds: Sequence[str], styles: dict[str, ArmStyle]
) -> Figure:
    curves = {
        kind: {
            p: numbers(measured[Arm(kind, p)]["accuracy"])
            for p in config.removed
            if Arm(kind, p) in measured
        }
        for kind in kinds
    }
    dense = numbers(measured[DENSE]["accuracy"])
    return accuracy_by_blocks(curves, dense=dense, styles=styles)


def _by_epoch(
    measured: Measured, config: LayerConfig, kinds: Sequence[str], p: int
) -> dict[str, dict[int, list[float]]]:
    curves: dict[str, dict[int, list[float]]] = {}
    for kind in kinds:
        for epoch in config.rewind_to:
            arm = Arm(kind, p, epoch)
            if arm in measured:
                curves.setdefault(kind, {})[epoch] = numbers(measured[arm]["accuracy"])
    return curves


def _robustness(measured: Measured, bars: dict[str, Arm], styles: dict[str, ArmStyle]) -> Figure:
    titles = {m.key: m.title for m in METRICS}
    told = [k for k in ("corrupted", "fgsm", "pgd", "pgd_l2") if k in measured[DENSE]]
    disturbances = {"clean": "accuracy_last"} | {titles[k].removeprefix("Under "): k for k in told}
    rows = {
        name: {shown: numbers(measured[arm][key]) for shown, key in disturbances.items()}
        for name, arm in bars.items()
        if arm in measured
    }
    return robustness_bars(rows, styles=styles)


def _speedups(
    measured: Measured, config: LayerConfig, kinds: Sequence[str]
) -> dict[str, dict[int, tuple[float, list[float]]]]:
    points: dict[str, dict[int, tuple[float, list[float]]]] = {}
    for kind in kinds:
        for count in config.removed:
            values = measured.get(Arm(kind, count), {})
            if "speedup" in values:
                less = 1 / (1 - flops_saved(measured, Arm(kind, count)) / 100)
                points.setdefault(kind, {})[count] = less, numbers(values["speedup"])
    return points
