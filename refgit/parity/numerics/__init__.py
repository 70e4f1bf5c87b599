"""Rounding: precisions, noise floors, and running a model again to measure them."""
