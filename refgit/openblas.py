"""What OpenBLAS is told before NumPy loads it."""

from __future__ import annotations

import os
import sys

# OpenBLAS's threads wait for the next product by spinning, by default for 2 to the 26th ticks, a
# tenth of a second in which whatever else wants their cores gets half of them. 2 to the 22nd, some
# milliseconds, is still longer than any pause between two products of a decode step.
SPINNING = {"OPENBLAS_THREAD_TIMEOUT": "22"}


def set_openblas_thread_timeout() -> None:
    """Let OpenBLAS's threads go to sleep soon, unless the environment says how long they wait.

    Nothing is done where NumPy is there already: OpenBLAS has read its variables then.
    """
    if "numpy" not in sys.modules:
        for name, value in SPINNING.items():
            os.environ.setdefault(name, value)
