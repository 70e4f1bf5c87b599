"""docs/differences.md quotes what docs/tools/differences/show.py prints beside transformers 4.56.2.

Every demonstration is run here, and its lines are those of the page: where one of the two
implementations changes, the page no longer says what is so. What each difference is made of is
held, on drawn examples, by the tests that the page's sections name.
"""

from __future__ import annotations

import pytest

from helpers.differences_page import QUOTES, show
from helpers.oracle import transformers

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

assert transformers.__version__ == "4.56.2"  # what the page calls "transformers"
OLD = {name: lines for name, lines in QUOTES.items() if not name.startswith("new-")}


@pytest.mark.parametrize("name", list(OLD))
def test_the_two_implementations_print_what_the_page_quotes(name: str) -> None:
    assert show(name) == OLD[name]
