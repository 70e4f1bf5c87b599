"""Hypotheses: the mistakes that a port may have made at a tensor."""
