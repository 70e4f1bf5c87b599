"""Traces: the named tensors of a run, in the order of execution."""
