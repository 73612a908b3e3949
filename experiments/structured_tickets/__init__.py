"""Structurally sparse lottery tickets, compared: ``python -m experiments.structured_tickets``."""
