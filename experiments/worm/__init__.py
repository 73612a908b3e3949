"""The main job: Early-Bird and WORM tickets against dense training (arXiv 1909.11957, 2406.11872)."""
