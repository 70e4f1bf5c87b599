"""What several files draw with hypothesis, and how often."""

from __future__ import annotations

import os

from hypothesis import settings
from hypothesis import strategies as st

# Where a seed and a few small numbers are all that is drawn, the default run draws a dozen;
# .ci/run sets REFGIT_ALL_DRAWS and draws forty.
few = settings(max_examples=40 if os.environ.get("REFGIT_ALL_DRAWS") else 12)
seeds = st.integers(0, 10**6)
