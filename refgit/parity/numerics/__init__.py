"""Rounding: noise floors, precisions, orders of summation."""
