"""docs/differences.md quotes what docs/tools/differences/show.py prints beside transformers.

Every demonstration that the installed transformers can show is run here, and its lines are those of
the page: where one of the two implementations changes, the page no longer says what is so. What
each difference is made of is tested, on drawn examples, by the tests that the page's sections name.
"""

from __future__ import annotations

import pytest

from helpers.differences_page import QUOTES, show
from helpers.oracle import MAJOR

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]
HERE = [name for name in QUOTES if name.startswith("new-") == (MAJOR == "5")]


@pytest.mark.parametrize("name", HERE)
def test_the_two_implementations_print_what_the_page_quotes(name: str) -> None:
    assert show(name) == QUOTES[name]
