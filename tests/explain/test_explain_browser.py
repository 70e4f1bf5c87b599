"""The explorer's page in headless Chromium: what a person presses, and what then is to be seen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.browser import Browser
from helpers.explanations import CASES, FACES, video
from helpers.pages import (  # noqa: F401  # fixtures
    CONTRASTS,
    NAMELESS,
    chromium,
    until,
    without_scripts,
)
from refgit import GitForCausalLM, GitProcessor
from refgit.demo import demo_path
from refgit.explain import Explanation, explain
from refgit.processing import load_image

MAP = "document.getElementById('map').toDataURL()"
SAID = "document.getElementById('said').textContent"
READOUT = "document.getElementById('readout').textContent"
WIDE = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def apple() -> Explanation:
    model = GitForCausalLM.from_pretrained(demo_path())
    reader = GitProcessor.from_pretrained(demo_path())
    return explain(model, reader, load_image(FACES / "red-apple.png"))


@pytest.fixture(scope="module")
def page(apple: Explanation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explorer") / "apple.html"
    apple.save(path, model_name="refgit-emoji", image_name="red-apple.png")
    return path


def show(
    window: Browser, path: Path, width: int = 1280, scheme: str = "light", still: bool = True
) -> None:
    """Open a page and wait until it has drawn; without motion nothing is left to wait for later."""
    window.look(width, 900, scheme)
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
    ]
    window.send("Emulation.setEmulatedMedia", features=features)
    window.open(path)
    until(window, f"{SAID} !== ''")


@pytest.fixture
def opened(chromium: Browser, page: Path) -> Iterator[Browser]:
    """The page on a desk; no test may leave an error in the console or ask a network."""
    chromium.problems.clear()
    show(chromium, page)
    yield chromium
    assert chromium.problems == []


def choose(window: Browser, element: str, value: object) -> None:
    """Choose an option of a list, or set a slider, as a person does."""
    window.ask(
        f"(() => {{ const e = document.getElementById('{element}'); e.value = '{value}';"
        "for (const kind of ['input', 'change']) "
        "e.dispatchEvent(new Event(kind, {bubbles: true})); })()"
    )


def levels(window: Browser, rows: int, columns: int) -> np.ndarray:
    """Colours in the middle of each patch with heat alone on the canvas: (rows, columns, 3)."""
    choose(window, "blend", 100)
    seen = window.ask(
        "(() => { const k = document.createElement('canvas');"
        f"k.width = {columns}; k.height = {rows}; const x = k.getContext('2d');"
        "x.imageSmoothingEnabled = false; x.drawImage(document.getElementById('map'), 0, 0,"
        "k.width, k.height); return Array.from(x.getImageData(0, 0, k.width, k.height).data); })()"
    )
    return np.array(seen).reshape(rows, columns, 4)[..., :3]


# ---- words


def test_the_page_opens_at_the_first_word(opened: Browser, apple: Explanation) -> None:
    assert opened.ask(SAID) == (
        "Word 1 of 3, “red”, probability 97.6 %, looks most at row 4, column 4 "
        "(mean of the heads of all layers)."
    )
    assert opened.ask("document.title") == "red apple - refgit explain"
    assert opened.ask("document.querySelectorAll('.word').length") == len(apple.tokens)


def test_a_click_on_a_word_changes_every_panel(opened: Browser) -> None:
    panels = ("rivals", "sources", "lens", "charts", "thumbs", "said")
    state = (
        "["
        + ", ".join(f"document.getElementById('{p}').outerHTML" for p in panels)
        + f", {MAP}, document.querySelector('#thumbs canvas').toDataURL()]"
    )
    before = opened.ask(state)
    opened.click('.word[data-k="1"]')
    after = opened.ask(state)
    assert [a != b for a, b in zip(before, after, strict=True)] == [True] * 8
    assert "“apple”" in opened.ask(SAID)
    assert opened.ask("document.querySelectorAll('.word[aria-current=\"true\"]').length") == 1


def test_the_heat_is_the_attention(opened: Browser, apple: Explanation) -> None:
    for k in range(3):
        opened.click(f'.word[data-k="{k}"]')
        share = apple.on_patches(apple.attention(k))[0]
        seen = levels(opened, 7, 7).sum(-1)
        # brighter the more attention: the same order, but for neighbours that a byte cannot tell
        order = np.argsort(share, axis=None)
        assert (np.diff(seen.ravel()[order].astype(int)) >= -6).all()
        assert np.unravel_index(seen.argmax(), seen.shape) == np.unravel_index(
            share.argmax(), share.shape
        )


def test_each_layer_head_and_rollout_shows_its_own_map(opened: Browser, apple: Explanation) -> None:
    opened.click('.word[data-k="1"]')

    def compare(share: np.ndarray) -> None:
        seen = levels(opened, 7, 7).sum(-1)
        assert seen.flat[share.argmax()] == seen.max()
        assert np.corrcoef(seen.ravel(), share.ravel())[0, 1] > 0.8

    for layer in range(3):
        choose(opened, "layer", layer)
        compare(apple.on_patches(apple.attention(1, layer))[0])
    opened.click(".choices label:nth-child(2)")
    for layer in range(3):
        choose(opened, "layer", layer)
        for head in range(4):
            choose(opened, "head", head)
            compare(apple.on_patches(apple.attention(1, layer, head))[0])
    opened.click(".choices label:nth-child(3)")
    for layer in range(3):
        choose(opened, "layer", layer)
        compare(apple.on_patches(apple.attention(1, layer, rolled=True))[0])
    assert "rollout up to layer 3" in opened.ask(SAID)


def test_every_control_changes_the_picture(opened: Browser, apple: Explanation) -> None:
    largest = [apple.on_patches(apple.attention(k)).max() for k in range(3)]
    opened.click(f'.word[data-k="{int(np.argmin(largest))}"]')
    seen = [opened.ask(MAP)]
    opened.click("#same")
    seen.append(opened.ask(MAP))
    assert seen[0] != seen[1]
    opened.click("#same")
    opened.click('.word[data-k="0"]')
    for press in (
        lambda: choose(opened, "layer", 1),
        lambda: opened.click(".choices label:nth-child(3)"),
        lambda: opened.click(".choices label:nth-child(2)"),
        lambda: choose(opened, "head", 2),
        lambda: choose(opened, "blend", 20),
        lambda: opened.click("#lines"),
        lambda: opened.click("#thumbs button"),
        lambda: opened.click("#on"),
        lambda: opened.click("#back"),
    ):
        press()
        seen.append(opened.ask(MAP))
        assert seen[-1] != seen[-2]
    assert seen[-1] == seen[-3]  # there and back


def test_the_picture_alone_is_the_image(opened: Browser, apple: Explanation) -> None:
    choose(opened, "blend", 0)
    opened.click("#lines")
    seen = opened.ask(
        "(() => { const c = document.getElementById('map'), k = document.createElement('canvas');"
        "k.width = k.height = 84; const x = k.getContext('2d'); x.imageSmoothingEnabled = false;"
        "x.drawImage(c, 0, 0, 84, 84); return Array.from(x.getImageData(0, 0, 84, 84).data); })()"
    )
    shown = np.array(seen).reshape(84, 84, 4)[..., :3]
    assert np.abs(shown - apple.image[0].astype(int)).mean() < 1


def test_numbers_beside_the_bars_are_the_models(opened: Browser, apple: Explanation) -> None:
    opened.click('.word[data-k="1"]')
    rows = opened.ask(
        "Array.from(document.querySelectorAll('#rivals tr')).map(r => r.innerText.split(/\\s+/)[0])"
    )
    assert rows == list(apple.top_tokens[1])
    row = apple.attention(1)
    sources = opened.ask(
        "Array.from(document.querySelectorAll('#sources tr')).map(r => r.innerText)"
    )
    assert [s.split("\t")[0] for s in sources] == ["patches", "class token", "[CLS]", "red"]
    shown = [float(s.split("\t")[-1].removesuffix(" %")) for s in sources]
    wanted = [row[1:50].sum(), row[0], row[50], row[51]]
    np.testing.assert_allclose(shown, 100 * np.array(wanted), atol=0.6)
    lens = opened.ask(
        "Array.from(document.querySelectorAll('#lens tbody tr')).map(r => r.cells[1].innerText)"
    )
    assert lens == [tokens[1] for tokens in apple.lens_tokens]
    norms = opened.ask("document.querySelectorAll('#charts svg')[1].getAttribute('aria-label')")
    assert norms.endswith(", ".join(f"{v:.1f}" for v in apple.text_norms[:, 1]))


# ---- keys


def test_keys_lead_through_words_and_layers(opened: Browser) -> None:
    opened.ask("document.querySelector('.word').focus()")
    for key, said in (
        ("ArrowRight", "Word 2 of 3"),
        ("ArrowDown", "mean of the heads of layer 1"),
        ("ArrowDown", "mean of the heads of layer 2"),
        ("ArrowUp", "mean of the heads of layer 1"),
        ("End", "Word 3 of 3"),
        ("ArrowRight", "Word 3 of 3"),
        ("Home", "Word 1 of 3"),
    ):
        opened.press(key)
        assert said in opened.ask(SAID)
        focus = opened.ask("document.activeElement.getAttribute('aria-current')")
        assert focus == "true"
    assert opened.ask("document.querySelectorAll('.word[tabindex=\"0\"]').length") == 1


def test_left_and_right_work_where_nothing_has_the_focus(opened: Browser) -> None:
    opened.press("ArrowRight")
    assert "Word 2 of 3" in opened.ask(SAID)
    opened.press("ArrowLeft")
    assert "Word 1 of 3" in opened.ask(SAID)


def test_tab_reaches_every_control_and_shows_where_it_is(opened: Browser) -> None:
    reached = []
    for _ in range(40):
        opened.press("Tab")
        reached.append(
            opened.ask(
                "(() => { const e = document.activeElement, next = e.nextElementSibling;"
                "return [e.id || e.className || e.name || e.tagName,"
                "getComputedStyle(e).outlineStyle,"
                "next ? getComputedStyle(next).outlineStyle : '']; })()"
            )
        )
    names = [name for name, *_ in reached]
    for name in ("theme", "word", "back", "play", "on", "speed", "mode", "layer", "map", "blend",
                 "lines", "same"):  # fmt: skip
        assert name in names
    assert names.count("word") < 3  # one stop, not one a word
    marked = [own if name != "mode" else beside for name, own, beside in reached if name != "BODY"]
    assert set(marked) == {"solid"}


def test_the_map_is_read_by_keys_and_by_pointer(opened: Browser, apple: Explanation) -> None:
    opened.ask("document.getElementById('map').focus()")
    share = apple.on_patches(apple.attention(0))[0]
    assert opened.ask(READOUT).startswith("row 4, column 4: ")
    before = opened.ask(MAP)
    opened.press("ArrowRight")
    opened.press("ArrowDown")
    words = opened.ask(READOUT)
    assert words.startswith("row 5, column 5: ")
    found = float(words.split(": ")[1].split(" %")[0]) / 100
    assert found == pytest.approx(share[4, 4], abs=1e-3)
    assert opened.ask(MAP) != before
    for _ in range(9):
        opened.press("ArrowDown")
    assert opened.ask(READOUT).startswith("row 7, column 5: ")
    opened.click("#map")
    assert opened.ask(READOUT).startswith("row 4, column 4: ")


def test_keys_lead_through_the_heads(opened: Browser) -> None:
    opened.click("#thumbs button")
    for key, said in (
        ("ArrowRight", "layer 1, head 2"),
        ("ArrowDown", "layer 2, head 2"),
        ("End", "rollout up to layer 2"),
        ("ArrowLeft", "mean of the heads of layer 2"),
        ("Home", "layer 2, head 1"),
        ("ArrowUp", "layer 1, head 1"),
        ("ArrowUp", "layer 1, head 1"),
    ):
        opened.press(key)
        assert f"({said})" in opened.ask(SAID)
        assert opened.ask("document.activeElement.getAttribute('aria-current')") == "true"
    assert opened.ask("document.querySelectorAll('#thumbs [tabindex=\"0\"]').length") == 1


def test_the_table_holds_what_the_map_shows(opened: Browser, apple: Explanation) -> None:
    assert opened.ask("document.querySelectorAll('#numbers td').length") == 0
    opened.click("#numbers summary")
    until(opened, "document.querySelectorAll('#numbers tbody tr').length === 7")
    for k in (0, 2):
        opened.click(f'.word[data-k="{k}"]')
        cells = opened.ask(
            "Array.from(document.querySelectorAll('#numbers tbody td')).map(c => c.innerText)"
        )
        share = apple.on_patches(apple.attention(k))[0]
        np.testing.assert_allclose(
            np.array(cells, float), 100 * share.ravel(), atol=0.05 + 100 * share.max() / 255
        )


# ---- the player


@pytest.mark.slow
def test_play_goes_to_the_last_word_and_stops(opened: Browser) -> None:
    choose(opened, "speed", 700)
    opened.click("#play")
    assert opened.ask("document.getElementById('play').getAttribute('aria-label')") == "pause"
    until(opened, f"{SAID}.startsWith('Word 2')")
    until(opened, f"{SAID}.startsWith('Word 3')")
    until(opened, "document.getElementById('play').getAttribute('aria-label') === 'play'")
    opened.click("#play")  # from the start again
    assert opened.ask(SAID).startswith("Word 1")
    opened.click("#play")  # paused
    assert opened.ask("document.getElementById('play').getAttribute('aria-label')") == "play"


def test_a_press_on_a_word_pauses(opened: Browser) -> None:
    opened.click("#play")
    opened.click('.word[data-k="2"]')
    assert opened.ask("document.getElementById('play').getAttribute('aria-label')") == "play"
    assert opened.ask(SAID).startswith("Word 3")


def test_steps_end_at_the_ends_and_keep_the_focus(opened: Browser) -> None:
    opened.click("#back")
    assert opened.ask(SAID).startswith("Word 1")
    for _ in range(4):
        opened.click("#on")
    assert opened.ask(SAID).startswith("Word 3")
    assert opened.ask("document.activeElement.id") == "on"
    assert opened.ask("document.activeElement.getAttribute('aria-disabled')") == "true"


@pytest.mark.slow
def test_the_map_fades_where_motion_is_welcome_and_ends_where_it_would_without(
    chromium: Browser, page: Path
) -> None:
    ends = []
    for still in (True, False):
        chromium.problems.clear()
        show(chromium, page, still=still)
        count = (
            "(() => { window.frames_ = 0; const x = CanvasRenderingContext2D.prototype;"
            "const draw = x.drawImage;"
            "x.drawImage = function (...a) { if (this.canvas.id === 'map') window.frames_++;"
            "return draw.apply(this, a); }; })()"
        )
        chromium.ask(count)
        chromium.click('.word[data-k="1"]')
        before = -1
        while before != (now := chromium.ask("window.frames_")):
            before = now
            time.sleep(0.4)
        ends.append((chromium.ask(MAP), now))
        assert chromium.problems == []
    (still_map, still_draws), (faded_map, faded_draws) = ends
    assert still_map == faded_map
    assert still_draws == 2  # the picture and its grey, once
    assert faded_draws > 4


# ---- looks


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_are_readable(
    chromium: Browser, page: Path, scheme: str, tmp_path: Path
) -> None:
    chromium.problems.clear()
    show(chromium, page, scheme=scheme)
    chromium.ask("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert chromium.ask(CONTRASTS) == {}
    background = chromium.ask("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) > 384) == (scheme == "light")
    assert chromium.problems == []


def test_the_button_overrides_the_scheme(opened: Browser) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    light = opened.ask(colour)
    label = "document.getElementById('theme').textContent"
    opened.click("#theme")
    assert (opened.ask(label), opened.ask(colour)) == ("Theme: light", light)
    opened.click("#theme")
    assert opened.ask(label) == "Theme: dark"
    assert opened.ask(colour) != light
    assert opened.ask(CONTRASTS) == {}
    opened.click("#theme")
    assert (opened.ask(label), opened.ask(colour)) == ("Theme: automatic", light)


@pytest.mark.parametrize("width", [320, 390, 700])
def test_a_phone_shows_it_without_scrolling_sideways(
    chromium: Browser, page: Path, width: int
) -> None:
    chromium.problems.clear()
    show(chromium, page, width)
    chromium.ask("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    for k in range(3):
        chromium.click(f'.word[data-k="{k}"]')
        assert chromium.ask(WIDE) <= width
    for press in ("label:nth-child(2)", "label:nth-child(3)"):
        chromium.click(f".choices {press}")
        assert chromium.ask(WIDE) <= width
    assert chromium.problems == []


def test_everything_that_can_be_pressed_has_a_name(opened: Browser) -> None:
    assert opened.ask(NAMELESS) == []


def test_without_scripts_picture_words_and_table_remain(chromium: Browser, page: Path) -> None:
    chromium.problems.clear()
    text, shown, player = without_scripts(
        chromium,
        page,
        "document.body.innerText",
        "document.querySelector('#frames img').offsetHeight",
        "document.querySelector('.player').offsetHeight",
    )
    assert "JavaScript is off" in text
    assert "row 1, column 6" in text
    assert shown > 50
    assert player == 0
    assert chromium.problems == []


# ---- other models


def open_case(chromium: Browser, found: Explanation, folder: Path, width: int = 1280) -> None:
    chromium.problems.clear()
    found.save(folder / "x.html")
    show(chromium, folder / "x.html", width)


def test_frames_of_a_video_are_chosen(chromium: Browser, tmp_path: Path) -> None:
    found = video()
    open_case(chromium, found, tmp_path, 390)
    seen = []
    for frame in range(3):
        chromium.click(f'#frames button[data-f="{frame}"]')
        share = found.on_patches(found.attention(0))[frame]
        colours = levels(chromium, 2, 2).sum(-1)
        assert colours.flat[share.argmax()] == colours.max()
        choose(chromium, "blend", 0)
        seen.append(chromium.ask(MAP))
    assert len(set(seen)) == 3
    names = chromium.ask("document.getElementById('sources').innerText")
    assert "frame 3" in names
    assert "class tokens" in names
    assert "frame " in chromium.ask(SAID)
    assert chromium.ask(WIDE) <= 390
    assert chromium.problems == []


def test_a_grid_that_is_no_square_keeps_its_shape(chromium: Browser, tmp_path: Path) -> None:
    found = explain(*CASES["interpolated"](), max_length=4)
    open_case(chromium, found, tmp_path)
    width, height = chromium.ask("[map.clientWidth, map.clientHeight]")
    assert width / height == pytest.approx(found.grid[2] / found.grid[1], rel=0.02)
    share = found.on_patches(found.attention(0))[0]
    colours = levels(chromium, *found.grid[1:]).sum(-1)
    assert colours.flat[share.argmax()] == colours.max()
    assert chromium.problems == []


def test_pruned_heads_are_crossed_out_and_the_others_keep_their_numbers(
    chromium: Browser, tmp_path: Path
) -> None:
    found = explain(*CASES["pruned"](), max_length=4)
    open_case(chromium, found, tmp_path)
    assert chromium.ask("document.querySelectorAll('#thumbs [title=\"pruned\"]').length") == 3
    chromium.click(".choices label:nth-child(2)")
    choose(chromium, "layer", 2)
    heads = chromium.ask("Array.from(document.getElementById('head').options).map(o => o.text)")
    assert heads == ["2 of 4", "3 of 4", "4 of 4"]
    choose(chromium, "head", 2)
    share = found.on_patches(found.attention(0, 2, 3))[0]
    colours = levels(chromium, 2, 2).sum(-1)
    assert colours.flat[share.argmax()] == colours.max()
    assert chromium.problems == []


def test_words_that_hold_html_run_nothing(chromium: Browser, tmp_path: Path) -> None:
    import dataclasses

    base = explain(*CASES["plain"](), max_length=4)
    evil = "<img src=x onerror='window.hacked=1'>"
    count = len(base.tokens)
    changes: dict[str, Any] = {
        "tokens": (evil,) * count,
        "context": (evil,) * count,
        "top_tokens": tuple((evil,) * 10 for _ in range(count)),
        "lens_tokens": tuple((evil,) * count for _ in base.lens_tokens),
        "text": evil,
    }
    open_case(chromium, dataclasses.replace(base, **changes), tmp_path, 390)
    for k in range(count):
        chromium.click(f'.word[data-k="{k}"]')
    assert evil in chromium.ask(SAID)
    assert chromium.ask("document.querySelectorAll('img').length") == 1
    assert chromium.ask("typeof hacked") == "undefined"
    assert chromium.ask(WIDE) <= 390
    assert chromium.problems == []
