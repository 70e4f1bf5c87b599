"""Comparing a trace with the reference's: rows, their numbers, and what is said of them."""
