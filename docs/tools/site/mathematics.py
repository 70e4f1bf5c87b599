"""LaTeX in pages becomes MathML when the site is built: readers need no script and no network."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

# What arithmatex makes of $...$ and of $$...$$ on lines of their own.
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.S)
_DISPLAY = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.S)
_LETTERS = re.compile(r'(?:<mi mathvariant="normal">[^<]+</mi>){2,}')
_UNKNOWN = re.compile(r"<m[ino][^>]*>(?:\\[A-Za-z]+|&)</m[ino]>")


class MathematicsError(ValueError):
    """LaTeX that cannot be rendered."""


def render(page: str) -> str:
    """Return a page's HTML with its LaTeX as MathML."""
    page = _DISPLAY.sub(
        lambda found: f'<div class="math-display">{to_mathml(found[1], "block")}</div>', page
    )
    return _INLINE.sub(lambda found: to_mathml(found[1], "inline"), page)


def to_mathml(latex: str, display: str) -> str:
    """Return one formula as a math element."""
    latex = html.unescape(latex).strip()
    try:
        mathml = convert(_known(latex), display=display)
    except Exception as error:  # the library raises errors of many kinds
        raise MathematicsError(f"{latex}: {type(error).__name__} {error}") from error
    unknown = _UNKNOWN.search(mathml)
    if unknown is not None:
        raise MathematicsError(f"{latex}: latex2mathml does not know {unknown[0]}")
    return _polished(mathml)


def _known(latex: str) -> str:
    """Say in the library's words what it does not know."""
    latex = latex.replace("{aligned}", "{align*}").replace(r"\arg", r"\operatorname{arg}")
    latex = re.sub(r"\\operatorname\*?\{([^{}]*)\}(?=\s*[A-Za-z0-9\\])", r"\\mathrm{\1}\\,", latex)
    return re.sub(r"\\operatorname\*?\{", r"\\mathrm{", latex)


def _polished(mathml: str) -> str:
    """Join upright letters to words, and mend underscores and the spaces around signs."""
    mathml = mathml.replace("<mo>&#x0221E;</mo>", "<mi>&#x0221E;</mi>")  # infinity is no operator
    mathml = mathml.replace("<mo>&#x0002F;</mo>", '<mo lspace="0" rspace="0">/</mo>')
    mathml = _LETTERS.sub(lambda found: f"<mi>{re.sub('<[^>]+>', '', found[0])}</mi>", mathml)
    return re.sub(r"<mtext>[^<]*</mtext>", lambda found: found[0].replace(r"\_", "_"), mathml)
