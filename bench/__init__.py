"""Measures Pawl: `python -m bench`."""
