"""Drop criteria of dynamic sparse training, compared: ``python -m experiments.dst_criteria``."""
