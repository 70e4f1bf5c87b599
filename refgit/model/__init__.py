"""The models: configuration, parameters, cache, and the two towers that `git.py` puts together."""
