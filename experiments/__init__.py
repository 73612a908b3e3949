"""The harness and one module per paper, run from a clone with ``python -m experiments.NAME``."""
