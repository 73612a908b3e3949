"""Tables, pictures and the report of an experiment, from plain records; it knows no algorithm."""

from experiments.report._accuracy_cell import accuracy_cell
from experiments.report._block_plots import (
    accuracy_by_blocks,
    accuracy_by_rewind_epoch,
    robustness_bars,
    speedup_against_flops,
)
from experiments.report._comparison import Metric as Metric
from experiments.report._comparison import arms_table as arms_table
from experiments.report._comparison import comparison as comparison
from experiments.report._comparison import comparison_of as comparison_of
from experiments.report._comparison import comparison_record as comparison_record
from experiments.report._comparison import comparison_records as comparison_records
from experiments.report._comparison import measurements as measurements
from experiments.report._density_plots import accuracy_against_density, similarity_maps
from experiments.report._distance_plots import DistanceTrace, HeatMap, distance_lines, heat_maps
from experiments.report._draw_plots import (
    CostPoint,
    DrawCurve,
    accuracy_by_cost,
    accuracy_by_draw,
)
from experiments.report._failed import failed_arms
from experiments.report._html import (
    Block,
    Callout,
    Code,
    Facts,
    Markup,
    Picture,
    Section,
    html_report,
)
from experiments.report._layer_plots import eigenvalue_lines, layer_densities
from experiments.report._made_by import made_by
from experiments.report._mask_plots import mask_pictures
from experiments.report._rank_plots import critical_difference
from experiments.report._ranks import Ranks, friedman
from experiments.report._stats import Censored, Paired, Summary, Value, numbers, paired, summary
from experiments.report._style import ArmStyle, arm_styles, figure_svg, save_figure
from experiments.report._tables import Column, Table
from experiments.report._ticket_plots import AccuracyCurve, accuracy_against_flops, kept_widths
from experiments.report._time_plots import accuracy_against_time

__all__ = [
    "AccuracyCurve",
    "ArmStyle",
    "Block",
    "Callout",
    "Censored",
    "Code",
    "Column",
    "CostPoint",
    "DistanceTrace",
    "DrawCurve",
    "Facts",
    "HeatMap",
    "Markup",
    "Metric",
    "Paired",
    "Picture",
    "Ranks",
    "Section",
    "Summary",
    "Table",
    "Value",
    "accuracy_against_density",
    "accuracy_against_flops",
    "accuracy_against_time",
    "accuracy_by_blocks",
    "accuracy_by_cost",
    "accuracy_by_draw",
    "accuracy_by_rewind_epoch",
    "accuracy_cell",
    "arm_styles",
    "arms_table",
    "comparison",
    "comparison_of",
    "comparison_record",
    "comparison_records",
    "critical_difference",
    "distance_lines",
    "eigenvalue_lines",
    "failed_arms",
    "figure_svg",
    "friedman",
    "heat_maps",
    "html_report",
    "kept_widths",
    "layer_densities",
    "made_by",
    "mask_pictures",
    "measurements",
    "numbers",
    "paired",
    "robustness_bars",
    "save_figure",
    "similarity_maps",
    "speedup_against_flops",
    "summary",
]
