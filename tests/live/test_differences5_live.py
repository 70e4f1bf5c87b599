"""docs/differences.md quotes what docs/tools/differences/show.py prints beside transformers 5.

It needs the environment of tests/live/test_transformers5_live.py.
"""

from __future__ import annotations

import pytest

from helpers.differences_page import QUOTES, show

INSTALL = "pip install torch==2.13.0 transformers==5.23.0 (see test_transformers5_live.py)"
pytest.importorskip("torch", reason=f"needs torch: {INSTALL}")
transformers = pytest.importorskip("transformers", reason=f"needs transformers 5: {INSTALL}")
if not transformers.__version__.startswith("5."):
    found_version = f"needs transformers 5, found {transformers.__version__}: {INSTALL}"
    pytest.skip(found_version, allow_module_level=True)

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

NEW = {name: lines for name, lines in QUOTES.items() if name.startswith("new-")}


@pytest.mark.parametrize("name", list(NEW))
def test_the_two_implementations_print_what_the_page_quotes(name: str) -> None:
    assert show(name) == NEW[name]
