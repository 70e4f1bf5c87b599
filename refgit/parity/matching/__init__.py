"""Matching: which tensor of another implementation is which of refgit's."""
