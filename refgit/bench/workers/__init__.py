"""The workers' end of the benchmark. `serve.py` is run by each peer's own Python.

Nothing here imports refgit, and what is heavy is imported by name: the files belong to refgit, the
libraries to the peers' environments.
"""
