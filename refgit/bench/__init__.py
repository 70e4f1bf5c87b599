"""The benchmark behind `refgit bench`: refgit and its peers, in turns, on the same weights.

A program to be measured runs in a process of its own (`workers/serve.py`), so that each has its
own libraries and threads. This process drives them over pipes, one at a time:

    cases       what is measured: names, inputs, options
    checkpoint  the weights, when no model is named
    peers       the Python of each peer, made on first use
    history     earlier commits of refgit as peers
    process     one worker, as this process sees it
    engine      refgit, as its worker sees it
    limits      what the machine allows: bare matrix products, bytes read from memory
    rounds      verify, then A B A B ...
    report      the table and the JSON object
    run         all of it, by a plan
    machine     where and when it was measured
"""


class BenchError(ValueError):
    """A peer cannot be started, is gone, or does not compute what refgit computes."""
