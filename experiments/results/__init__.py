"""What was measured, kept as JSON in ``results/``; its tables are made from that and nothing else."""

from experiments.results._record import RESULTS, ResultError, add, read
from experiments.results._table import page

__all__ = ["RESULTS", "ResultError", "add", "page", "read"]
