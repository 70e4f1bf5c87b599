"""Searches that transformers 5 no longer has: contrastive, diverse beam, constrained beam."""
