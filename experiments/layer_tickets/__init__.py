"""Layer tickets: whole blocks removed at initialisation, against filters of the same number."""
