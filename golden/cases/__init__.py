"""The golden cases, by what they show: models, generation, processing."""
