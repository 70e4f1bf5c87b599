"""Adapters of peft: what a training has changed about a model, merged into its weights."""
