"""What several files draw with hypothesis, and how often."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

# Where a seed and a few small numbers are all that is drawn, a dozen draws say what forty say.
few = settings(max_examples=12)
seeds = st.integers(0, 10**6)
