"""The oracle of the live tests: importing this skips a module where the oracle is missing."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the oracle needs torch: pip install 'refgit[oracle]'")
transformers = pytest.importorskip("transformers", reason="pip install 'refgit[oracle]'")
if transformers.__version__ != "4.56.2":
    pytest.skip(
        f"the oracle is transformers 4.56.2, not {transformers.__version__}: "
        "pip install 'refgit[oracle]'",
        allow_module_level=True,
    )

__all__ = ["torch", "transformers"]
