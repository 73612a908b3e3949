"""Foresight pruning, compared: ``python -m experiments.foresight``."""
