"""Comparison: another implementation's tensors against the reference's, a row each."""
