"""The report: its HTML as text, what is drawn, and the page in headless Chromium."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.browser import Browser
from helpers.pages import (  # noqa: F401  # fixtures
    CONTRASTS,
    NAMELESS,
    Reader,
    chromium,
    data_of,
    without_scripts,
)
from helpers.reports import (  # noqa: F401  # fixtures
    EVIL,
    PROBABILITIES,
    VALUE,
    WRONG,
    comparison,
    diagnosis,
    other,
    page,
    reference,
)
from refgit.errors import TraceError
from refgit.parity import Comparison, compare
from refgit.parity.diagnosis.procedure import Diagnosis
from refgit.parity.report import pictures
from refgit.parity.report.data import aligned
from refgit.parity.report.levels import level_of, times
from refgit.parity.report.tower import place, sections
from refgit.parity.report.write import html_report, write_report
from refgit.traces.container import Trace


def squeezed(text: str) -> str:
    return " ".join(text.split())


# ---- the file


def test_the_html_is_well_formed_and_its_ids_are_unique(page: str) -> None:
    reader = Reader(page)
    assert reader.faults == []
    assert reader.open == []
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 5
    assert page.startswith("<!DOCTYPE html>")


def test_names_that_hold_html_are_shown_and_do_nothing(page: str) -> None:
    reader = Reader(page)
    assert not [tag for tag, _ in reader.elements if tag in ("img", "i", "b")]
    assert [tag for tag, _ in reader.elements].count("script") == 2
    assert not [key for _, attributes in reader.elements for key in attributes if key[:2] == "on"]
    assert squeezed(EVIL) in reader.text
    assert "nobody's <i>" in reader.text
    block = page.partition('id="data">')[2].partition("</script>")[0]
    assert not set("<>&") & set(block)
    rows = data_of(page)["rows"]
    assert [row["matched"] for row in rows if row["name"] == WRONG[0]] == [EVIL]


def test_the_report_needs_nothing_from_anywhere(page: str) -> None:
    reader = Reader(page)
    addresses = [
        value or ""
        for _, attributes in reader.elements
        for key, value in attributes.items()
        if key in ("src", "href", "action", "data", "poster", "srcset")
    ]
    assert addresses
    assert {address.partition(":")[0].partition("t")[0] for address in addresses} <= {"#", "da"}
    inside = "".join(reader.scripts)
    assert re.findall(r"https?://[^\s\"']*", inside) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in inside
    assert "@import" not in inside
    policy = [a for _, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert (policy[0]["content"] or "").startswith("default-src 'none'")


def test_all_sentences_stand_above_the_tower(
    page: str, comparison: Comparison, diagnosis: Diagnosis
) -> None:
    above = Reader(page[: page.index('id="tower"')] + '">').text.lower()
    assert len(comparison.sentences) > 2
    for sentence in (*comparison.sentences, *diagnosis.sentences):
        assert squeezed(sentence).lower() in above
    assert squeezed(diagnosis.causes[0].text).lower() in above
    assert "✗ Differs" in page


def test_every_row_stands_in_the_plain_table_and_in_the_tower(
    page: str, comparison: Comparison
) -> None:
    table = page[page.index('id="all"') :].partition("<noscript>")[0]
    text = Reader(table).text
    links = re.findall(r'href="#t(\d+)"', table)
    assert links == [str(i) for i in range(len(comparison.rows))]
    for row in comparison.rows:
        assert squeezed(row.name) in text
        assert times(row) in text
    cells = re.findall(r'<button class="cell [^"]*" data-i="(\d+)"', page)
    assert sorted(map(int, cells)) == list(range(len(comparison.rows)))


def test_what_has_no_counterpart_is_listed(page: str, comparison: Comparison) -> None:
    text = Reader(page).text
    assert "1 tensors of yours without counterpart nobody's <i>" in text
    assert comparison.missing
    for name in comparison.missing:
        assert name in text


def test_the_first_divergence_and_the_diagnosed_tensors_are_marked(page: str) -> None:
    rows = data_of(page)["rows"]
    assert [row["name"] for row in rows if row.get("first")] == [VALUE]
    assert [row["name"] for row in rows if "located" in row] == [VALUE, WRONG[0]]
    assert rows[data_of(page)["start"]]["name"] == VALUE
    label = re.search(r'aria-label="(self_attn.v_proj: [^"]*first divergence[^"]*)"', page)
    assert label is not None
    assert label[1].endswith("differs, first divergence, wrong by itself")


def test_the_file_states_its_size(page: str) -> None:
    stated = re.search(r"This file: ([\d,]+) kB", page)
    assert stated is not None
    assert abs(int(stated[1].replace(",", "")) * 1000 - len(page.encode())) <= 1000


def test_the_same_comparison_gives_the_same_file(
    page: str, reference: Trace, other: Trace, comparison: Comparison, diagnosis: Diagnosis
) -> None:
    assert html_report(comparison, diagnosis, reference, other) == page


def many(rows: int, shape: tuple[int, ...]) -> tuple[Trace, Trace]:
    """Traces of many tensors of noise that all differ."""
    rng = np.random.default_rng(0)
    a = {f"git.encoder.layer.{i}.output.dense": rng.standard_normal(shape) for i in range(rows)}
    return Trace(a), Trace({name: x + 1e-3 * rng.standard_normal(shape) for name, x in a.items()})


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "shape"), [(1500, (1, 40, 40)), (60, (1, 200, 768))])
def test_many_and_large_tensors_stay_below_five_megabytes(
    rows: int, shape: tuple[int, ...]
) -> None:
    reference, other = many(rows, shape)
    page = html_report(compare(reference, other), None, reference, other)
    assert len(data_of(page)["rows"]) == rows
    assert len(page.encode()) < 5e6


def test_an_agreement_without_diagnosis_is_a_report_too(reference: Trace, tmp_path: Path) -> None:
    same = compare(reference, reference)
    write_report(tmp_path / "report.html", same, None, reference, reference)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "✓ Agrees" in text
    assert "No diagnosis was made" in text
    assert all("d" not in row["map"] for row in data_of(text)["rows"])  # nothing to draw
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_diagnosis_that_found_nothing_says_so(reference: Trace) -> None:
    page = html_report(compare(reference, reference), Diagnosis([], 90), reference, reference)
    assert "Each of 90 tensors follows from your own inputs" in page


@pytest.mark.parametrize(
    "x",
    [
        np.float64(3.0), np.zeros((0, 4)), np.arange(5.0), np.zeros((2, 3), bool),
        np.full((2, 2), np.nan), np.array([[np.inf, 1.0]]), np.ones((1, 2, 3, 2, 2)),
        np.array([1e308, -1e308]), np.arange(6).reshape(2, 3),
    ],
)  # fmt: skip
def test_tensors_of_any_shape_and_kind_can_be_shown(x: Any) -> None:
    x = np.asarray(x)
    y = np.where(np.isfinite(x), -x, 0).astype(x.dtype) if x.dtype.kind == "f" else x[::-1]
    reference, other = Trace({"x": x}), Trace({"x": y})
    page = html_report(compare(reference, other), None, reference, other)
    assert Reader(page).faults == []
    assert data_of(page)["rows"][0]["name"] == "x"


def test_a_path_that_cannot_be_written_is_an_error_of_ours(
    reference: Trace, tmp_path: Path
) -> None:
    same = compare(reference, reference)
    with pytest.raises(TraceError, match="cannot be written"):
        write_report(tmp_path / "none" / "x.html", same, None, reference, reference)


# ---- the tower


def test_the_tower_follows_the_order_of_execution(reference: Trace) -> None:
    found = sections(reference)
    assert [section.title for section in found] == [
        "Inputs", "Image tower", "Projection", "Text embedding", "Decoder", "Head", "Decode step 1",
    ]  # fmt: skip
    assert [layer.title for layer in found[1].layers] == [
        "embeddings", "pre_layrnorm", "layer 0", "layer 1", "post_layernorm",
    ]  # fmt: skip
    rows = [i for section in found for layer in section.layers for i, _ in layer.rows]
    assert rows == list(range(len(reference)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("git.encoder.layer.11.output.LayerNorm", ("Decoder", "layer 11", "output.LayerNorm")),
        ("git.image_encoder.vision_model.encoder.layers.3", ("Image tower", "layer 3", "output")),
        ("vision_model.pre_layrnorm", ("Image tower", "pre_layrnorm", "output")),
        ("git.visual_projection.visual_projection.1", ("Projection", "projection", "1")),
        ("output", ("Head", "logits", "output")),
        ("step.2.output", ("Decode step 2", "logits", "output")),
        (
            "call.1.step.2.git.encoder.layer.0.output.dense",
            ("Call 1: Decode step 2", "decoder layer 0", "output.dense"),
        ),
        ("call.3.input.input_ids", ("Call 3: Inputs", "inputs", "input_ids")),
        ("my.own.tensor", ("Other tensors", "other", "my.own.tensor")),
    ],
)
def test_a_name_has_its_place(name: str, expected: tuple[str, str, str]) -> None:
    assert place(name) == expected


def test_the_colour_says_whether_a_row_agrees(comparison: Comparison) -> None:
    for row in comparison.rows:
        assert (level_of(row, comparison.multiple) <= 1) == row.ok
    nan = next(row for row in comparison.rows if row.name == WRONG[1])
    assert (level_of(nan, comparison.multiple), times(nan)) == (6, "NaN/inf")


# ---- what is drawn


def floors(codes: np.ndarray) -> np.ndarray:
    return 10 ** (pictures.SCALE_START + (codes.astype(float) - 1) * pictures.SCALE_STEP)


def test_a_byte_holds_an_error_to_six_per_cent() -> None:
    error = np.logspace(-2.99, 9.6, 500)
    np.testing.assert_allclose(floors(pictures.codes(error)), error, rtol=0.06)
    special = pictures.codes(np.array([0.0, 1e-30, 1e30, np.nan, np.inf]))
    assert special.tolist() == [0, 1, 254, 255, 255]


def test_equal_infinities_differ_by_nothing_and_nan_by_no_number() -> None:
    a = np.array([np.inf, np.nan, np.inf, 1.0, 2.0])
    b = np.array([np.inf, np.nan, -np.inf, np.nan, 2.5])
    np.testing.assert_array_equal(
        pictures.error_of(a, b, 0.25), [0.0, 0.0, np.nan, np.nan, 2.0]
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (129, 128), (1000, 3)])
def test_a_cell_is_the_largest_error_of_its_block(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).random(shape)
    small = pictures.shrunk(x, 16)
    rows, columns = small.shape
    assert (rows, columns) == (min(16, shape[0]), min(16, shape[1]))
    for i in range(rows):
        for j in range(columns):
            block = x[
                i * shape[0] // rows : (i + 1) * shape[0] // rows,
                j * shape[1] // columns : (j + 1) * shape[1] // columns,
            ]
            assert small[i, j] == block.max()


def test_heads_are_folded_and_shown_one_by_one() -> None:
    error = np.zeros((2, 3, 5, 4))
    error[1, 2, 3, 1] = 7.0
    folded = pictures.fold("git.encoder.layer.0.attention.self.scores", error)
    assert (folded.error.shape, folded.period, folded.part) == ((10, 4), 5, "head")
    assert np.argwhere(folded.error).tolist() == [[8, 1]]
    assert folded.parts is not None
    assert folded.parts.tolist() == [[0.0, 0.0, 0.0], [0.0, 0.0, 7.0]]
    assert pictures.fold("input.pixel_values", error).part == "colour channel"


@pytest.mark.parametrize("with_class", [True, False])
def test_image_tokens_are_laid_out_as_their_patches(with_class: bool) -> None:
    error = np.zeros((2, 9 + with_class + 4, 6))
    error[1, with_class + 5, 2] = 100.0  # the patch in row 1, column 2 of the second image
    error[1, -1] = 1e6  # text is no patch
    folded = pictures.fold("git.encoder.layer.0", error)
    grid = pictures.patch_grid(folded, 9 + with_class, 9 + with_class)
    assert grid is not None
    assert (grid["side"], grid["image"], "class" in grid) == (3, 1, with_class)
    found = np.frombuffer(base64.b64decode(grid["d"]), np.uint8).reshape(3, 3)
    assert np.argwhere(found).tolist() == [[1, 2]]


def test_image_tokens_that_are_no_square_have_no_grid() -> None:
    folded = pictures.fold("git.encoder.layer.0", np.ones((1, 12, 6)))
    assert pictures.patch_grid(folded, 12, 12) is None
    assert pictures.patch_grid(folded, 0, 5) is None


def test_histograms_count_every_element() -> None:
    x = np.random.default_rng(0).standard_normal(1000)
    found = pictures.value_histogram(x, x + 1)
    assert found is not None
    for text in found["d"]:
        counts = 2 ** (np.frombuffer(base64.b64decode(text), np.uint8) / 8) - 1
        assert counts.sum() == pytest.approx(1000, rel=0.05)
    error = np.array([0.0, 0.0, 1.1, 1e-9, 1e30, np.nan])
    bars = np.frombuffer(base64.b64decode(pictures.error_histogram(error)), np.uint8)
    assert {int(i): int(n) for i, n in enumerate(bars) if n} == {0: 13, 1: 8, 7: 8, 24: 8}


def test_worst_elements_come_worst_first_without_those_that_are_equal() -> None:
    ours, theirs = np.zeros((2, 3)), np.array([[0.0, 2.0, 0.0], [np.nan, 0.0, -3.0]])
    error = pictures.error_of(ours, theirs, 0.5)
    assert pictures.worst_elements(ours, theirs, error, 9) == [
        [[1, 0], 0.0, "nan", "inf"], [[1, 2], 0.0, -3.0, 6.0], [[0, 1], 0.0, 2.0, 4.0],
    ]  # fmt: skip
    assert len(pictures.worst_elements(ours, theirs, error, 1)) == 1


def test_a_part_is_laid_beside_the_part_it_is_of() -> None:
    ours = np.arange(24.0).reshape(2, 4, 3)
    for part in (ours[:, -1:], ours[:, :1], ours[:, 2:]):
        both = aligned(ours, part)
        assert both is not None
        np.testing.assert_array_equal(both[0], part)
    repeated = aligned(ours[:1], np.repeat(ours[:1], 5, 0))
    assert repeated is not None
    assert repeated[0].shape == (5, 4, 3)
    assert aligned(ours, ours[0]) is None
    assert aligned(ours, np.zeros((2, 5, 3))) is None


def test_scores_behind_a_mask_are_not_drawn_as_errors() -> None:
    name = "git.encoder.layer.0.attention.self.scores"
    ours = np.random.default_rng(0).standard_normal((1, 2, 4, 4))
    theirs = np.where(np.tri(4, dtype=bool), ours, -np.inf)
    reference, other = Trace({name: ours}), Trace({name: theirs})
    comparison = compare(reference, other)
    assert comparison.ok
    (row,) = data_of(html_report(comparison, None, reference, other))["rows"]
    assert "d" not in row["map"]
    assert row["worst_elements"] == []


# ---- in the browser


@pytest.fixture(scope="module")
def report(page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture
def opened(chromium: Browser, report: Path) -> Iterator[Browser]:
    """The report in a window of a desk's width; no test may leave an error in the console."""
    chromium.problems.clear()
    chromium.look(1280, 900)
    chromium.open(report)
    yield chromium
    assert chromium.problems == []


def cell(opened: Browser, comparison: Comparison, name: str) -> str:
    """The selector of a tensor's square."""
    i = [row.name for row in comparison.rows].index(name)
    return f'.cell[data-i="{i}"]'


TITLE = "document.querySelector('#detail h3').textContent"
PICTURE = "document.querySelector('#heat canvas').toDataURL()"


def test_the_page_opens_at_the_first_divergence(opened: Browser) -> None:
    assert opened.ask(TITLE) == f"{VALUE} (first divergence)"
    detail = opened.ask("document.getElementById('detail').innerText")
    for words in ("Worst elements", "cosine", "[1, 2, ", "matched by", "layout", "noise floor"):
        assert words in detail
    assert opened.ask("document.querySelectorAll('#detail svg').length") == 2
    assert opened.ask("document.title").startswith("refgit")


def test_a_click_on_a_tensor_changes_the_panel_and_the_picture(
    opened: Browser, comparison: Comparison
) -> None:
    before = opened.ask(PICTURE)
    opened.click(cell(opened, comparison, PROBABILITIES))
    assert opened.ask(TITLE) == PROBABILITIES
    assert opened.ask(PICTURE) != before
    opened.ask("document.querySelector('#detail details').open = true")
    heads = opened.ask("document.querySelector('#detail details').innerText")
    assert re.search(r"head 1\s+equal", heads)
    assert re.search(r"head 2\s+[\d.,e]+ ×", heads)
    assert opened.ask("document.querySelectorAll('#tower [aria-current]').length") == 1


def test_a_click_on_a_layer_shows_its_worst_tensor_and_lists_the_others(opened: Browser) -> None:
    opened.click("#tower details:nth-child(5) li:nth-child(1) .layer")
    assert opened.ask(TITLE) == WRONG[0]
    chips = opened.ask("document.querySelectorAll('.chips button').length")
    assert chips == 14
    opened.click(".chips button:first-child")
    assert opened.ask(TITLE) == "git.encoder.layer.0.attention.self.query"


def test_the_heat_map_shows_where_the_error_is(opened: Browser) -> None:
    """Token 2 of the second image, channels 0 to 5: row 7 of 10 and columns 0 to 5 of 12."""
    seen = opened.ask(
        "(() => { const c = document.querySelector('#heat canvas');"
        "return [c.width, c.height, Array.from(c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data)]; })()"
    )
    assert seen[:2] == [12, 10]
    red, _, blue = np.array(seen[2]).reshape(10, 12, 4).transpose(2, 0, 1)[:3]
    expected = np.zeros((10, 12), bool)
    expected[7, :6] = True
    np.testing.assert_array_equal(red > blue, expected)  # orange differs, blue agrees
    grid = opened.ask("document.getElementById('grid').innerText")
    assert "of image 1" in grid


def test_the_pointer_and_the_keys_read_the_heat_map(opened: Browser) -> None:
    opened.ask("document.querySelector('#heat canvas').focus()")
    readout = "document.querySelector('#heat .readout').textContent"
    assert opened.ask(readout).startswith("item 1, token 2, channel ")
    for _ in range(12):
        opened.press("ArrowRight")
    assert "token 3" in opened.ask(readout)
    opened.press("ArrowUp")
    assert "token 2" in opened.ask(readout)
    assert opened.ask(TITLE).startswith(VALUE)
    opened.click("#heat canvas")
    said = opened.ask(readout)
    assert re.fullmatch(r"item \d, token \d, channel \d+: (equal|[\d.,e-]+ ×)", said)


def test_keys_alone_lead_through_the_tower(opened: Browser) -> None:
    for _ in range(30):
        opened.press("Tab")
        if opened.ask("document.activeElement.matches('#tower button')"):
            break
    assert opened.ask("document.activeElement.getAttribute('aria-current')") == "true"
    for key, name in (
        ("ArrowRight", VALUE.replace("v_proj", "scores")),
        ("ArrowLeft", VALUE),
        ("ArrowUp", VALUE.replace("layers.1", "layers.0")),
        ("ArrowDown", VALUE),
        ("Home", "input.position_ids"),
    ):
        opened.press(key)
        assert opened.ask(TITLE).removesuffix(" (first divergence)") == name
        assert opened.ask("document.activeElement.getAttribute('aria-current')") == "true"
    assert "input.position_ids" in opened.ask("document.getElementById('live').textContent")
    # one stop of the Tab key, not a hundred
    assert opened.ask("document.querySelectorAll('#tower button[tabindex=\"0\"]').length") == 1


def test_enter_chooses_what_has_the_focus(opened: Browser, comparison: Comparison) -> None:
    selector = cell(opened, comparison, "output")
    opened.ask(f"document.querySelector('{selector}').focus()")
    assert opened.ask(TITLE) != "output"
    opened.press("Enter")
    assert opened.ask(TITLE) == "output"


def test_every_tensor_can_be_shown_and_none_runs_the_html_of_a_name(
    opened: Browser, comparison: Comparison
) -> None:
    shown = opened.ask(
        "Array.from(document.querySelectorAll('.cell')).map(b => { b.click();"
        f"return {TITLE}.replace(' (first divergence)', ''); }})"
    )
    assert sorted(shown) == sorted(row.name for row in comparison.rows)
    opened.click(cell(opened, comparison, WRONG[0]))
    assert EVIL in opened.ask("document.getElementById('detail').textContent")
    assert opened.ask("document.querySelectorAll('img, #detail script').length") == 0
    assert opened.ask("typeof hacked") == "undefined"


def test_a_link_of_the_table_and_one_from_outside_choose_a_tensor(
    opened: Browser, comparison: Comparison, report: Path
) -> None:
    i = [row.name for row in comparison.rows].index("output")
    opened.click(f'a[href="#t{i}"]')
    assert opened.ask(TITLE) == "output"
    opened.open(report.with_name("report.html"), f"?again#t{i + 1}")
    assert opened.ask(TITLE) == comparison.rows[i + 1].name


def test_the_table_can_be_cut_to_what_differs(opened: Browser, comparison: Comparison) -> None:
    visible = (
        "Array.from(document.querySelectorAll('#all tbody tr')).filter(r => r.offsetHeight).length"
    )
    assert opened.ask(visible) == len(comparison.rows)
    opened.click("#only")
    assert opened.ask(visible) == sum(not row.ok for row in comparison.rows)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_are_readable(
    opened: Browser, report: Path, scheme: str, tmp_path: Path
) -> None:
    opened.look(1280, 900, scheme)
    opened.open(report)
    assert opened.ask(CONTRASTS) == {}
    opened.ask("document.getElementById('tower-title').scrollIntoView()")
    opened.picture(tmp_path / f"{scheme}.png")
    seen = np.asarray(Image.open(tmp_path / f"{scheme}.png").convert("L"))
    assert seen.shape == (900, 1280)
    assert (np.median(seen) > 128) == (scheme == "light")
    assert len(np.unique(seen)) > 50


def test_the_picture_follows_a_change_of_scheme(opened: Browser) -> None:
    before = opened.ask(PICTURE)
    opened.look(1280, 900, "dark")
    assert opened.ask(PICTURE) != before
    opened.look(1280, 900, "light")
    assert opened.ask(PICTURE) == before


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_it_without_scrolling_sideways(
    opened: Browser, report: Path, comparison: Comparison, width: int, tmp_path: Path
) -> None:
    opened.look(width, 800)
    opened.open(report)
    for name in (VALUE, PROBABILITIES, WRONG[0], "input.pixel_values"):
        opened.click(cell(opened, comparison, name))
        assert opened.ask("document.documentElement.scrollWidth") <= width
        opened.ask(TITLE)  # after a click the page scrolls to what was chosen
        top = opened.ask("document.getElementById('detail').getBoundingClientRect().top")
        assert -1 <= top < 800
    opened.picture(tmp_path / f"{width}.png")
    opened.click(".back")
    assert opened.ask("document.activeElement.matches('#tower button[aria-current]')")


def test_without_scripts_the_tower_and_the_table_remain(
    chromium: Browser, report: Path, comparison: Comparison
) -> None:
    shown, text, detail = without_scripts(
        chromium,
        report,
        "document.querySelectorAll('#all tbody tr').length",
        "document.body.innerText",
        "document.getElementById('detail').hidden",
    )
    assert shown == len(comparison.rows)
    assert detail
    assert "JavaScript is off" in text
    assert VALUE in text
    assert "✗" in text


def test_everything_that_can_be_pressed_has_a_name(opened: Browser) -> None:
    assert opened.ask(NAMELESS) == []
