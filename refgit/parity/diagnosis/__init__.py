"""Diagnosis: which operation of another implementation is wrong, and why."""
