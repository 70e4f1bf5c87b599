"""The explorer as one HTML file that needs nothing else: no network, no fonts, no library.

Words, picture and a table of all words are plain HTML and need no JavaScript. What a click
shows is drawn by explorer.js from the data block at the end of the file. Attention is most of it
and goes in as one byte a number, see `packed`.
"""

from __future__ import annotations

import io
import math
from html import escape
from typing import Any

import numpy as np

from refgit.explain.data import Bytes, ExplanationData, Numbers
from refgit.html.page import base64_of, script_safe, whole_page

# By this a page of ours is known again: what is anything else is not written over.
GENERATOR = '<meta name="generator" content="refgit explain">'


def as_page(x: ExplanationData, *, model_name: str = "", image_name: str = "") -> str:
    """Return the page as text.

    Parameters
    ----------
    x : ExplanationData
    model_name, image_name : str
        For the head of the page; left out where empty.
    """
    parts = {
        "generator": GENERATOR,
        "title": escape(x.text or "a text without words"),
        "facts": _facts(x, model_name, image_name),
        "words": _word_buttons(x),
        "frames": _frames(x),
        "table": _table(x),
        "data": script_safe(data_block(x)),
    }
    return whole_page("refgit.explain", "explorer", parts)


# ---- data


def data_block(x: ExplanationData) -> dict[str, Any]:
    """What the page's script draws from, as JSON takes it."""
    frames, rows, columns = x.grid
    return {
        "grid": [frames, rows, columns],
        "words": [_word(x, k) for k in range(len(x.tokens))],
        "context": x.context,
        "heads": x.heads,
        # word by word, then layer by layer, then head by head, then token by token
        "attention": packed(np.concatenate([a.swapaxes(0, 1) for a in x.attentions], axis=1)),
        "rollout": packed(x.rollouts.swapaxes(0, 1)),
        "image_norms": [
            [_brief(v) for v in (row.mean(), row.min(), row.max())] for row in x.image_norms
        ],
    }


def _word(x: ExplanationData, k: int) -> dict[str, Any]:
    layers = range(len(x.lens_tokens))
    return {
        "token": x.tokens[k],
        "p": _brief(x.probabilities[k]),
        "rank": int(x.ranks[k]),
        "top": [
            [token, _brief(p), int(i)]
            for token, p, i in zip(
                x.top_tokens[k], x.top_probabilities[k], x.top_ids[k], strict=True
            )
        ],
        "id": int(x.token_ids[k]),
        "norms": [_brief(v) for v in x.text_norms[:, k]],
        "lens": [
            [x.lens_tokens[i][k], _brief(x.lens_probabilities[i, k]), _brief(x.lens_of_token[i, k])]
            for i in layers
        ],
    }


def _brief(value: Any) -> float | None:
    """Four digits; what is not a number becomes null, which JSON has."""
    return float(f"{float(value):.4g}") if math.isfinite(value) else None


def packed(shares: Numbers) -> dict[str, str]:
    r"""Pack rows of attention as bytes, finer the smaller the number.

    .. math:: c = \operatorname{round}(255 \sqrt{x / \max x}), \qquad x' = (c / 255)^2 \max x

    which is within 1/255 of the row's largest.

    Parameters
    ----------
    shares : array (..., L)
        None negative.

    Returns
    -------
    dict
        ``codes``, bytes, and ``largest``, a little-endian float32 of each row, both in base64.
    """
    x = np.nan_to_num(np.asarray(shares, np.float64), nan=0.0, posinf=0.0).reshape(
        -1, shares.shape[-1]
    )
    largest = x.max(axis=-1, keepdims=True)
    codes = np.rint(255 * np.sqrt(x / np.where(largest > 0, largest, 1.0))).astype(np.uint8)
    return {"codes": base64_of(codes), "largest": base64_of(largest.astype("<f4"))}


# ---- plain HTML; every name is escaped where it goes in


def percent(p: float) -> str:
    """A probability in a few characters: 97 %, 3.1 %, 0.02 %, < 0.01 %."""
    if not math.isfinite(p):
        return "not a number"
    x = 100 * p
    if 0 < x < 0.01:
        return "< 0.01 %"
    if 99.95 <= x < 100:
        return "> 99.9 %"
    return f"{x:.1f} %" if x >= 1 or x == 0 else f"{x:.2f} %"


def _facts(x: ExplanationData, model_name: str, image_name: str) -> str:
    frames, rows, columns = x.grid
    height, width = x.image.shape[1:3]
    heads = sorted({len(h) for h in x.heads})
    per_layer = str(heads[0]) if len(heads) == 1 else f"{heads[0]} to {heads[-1]}"
    seen = f"{width} × {height} pixels in {rows} × {columns} patches"
    facts = [
        ("text", "written by the model" if x.generated else "given, and read word by word"),
        ("model", model_name),
        ("image" if frames == 1 else "video", image_name),
        ("seen as", seen if frames == 1 else f"{frames} frames of {seen}"),
        ("decoder", f"{_count(len(x.heads), 'layer')}, {per_layer} heads in each"),
    ]
    return "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in facts if v)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _word_buttons(x: ExplanationData) -> str:
    return "".join(
        f'<button type="button" class="word" data-k="{k}" style="--p:{max(0.0, p):.4f}">'
        f'<span class="token">{escape(token)}</span>'
        f'<span class="chance"><span class="hidden">, probability </span>{percent(p)}</span>'
        "</button>"
        for k, (token, p) in enumerate(zip(x.tokens, x.probabilities.tolist(), strict=True))
    )


def _frames(x: ExplanationData) -> str:
    if len(x.image) == 1:
        return f'<img alt="the image as the model sees it" src="{picture_uri(x.image[0])}">'
    return "".join(
        f'<button type="button" data-f="{i}"><img alt="frame {i + 1}" src="{picture_uri(frame)}">'
        f"<span>frame {i + 1}</span></button>"
        for i, frame in enumerate(x.image)
    )


def picture_uri(pixels: Bytes) -> str:
    """Pixels (H, W, 3) as a PNG in a data URI."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64_of(file.getvalue())}"


def _table(x: ExplanationData) -> str:
    lines = []
    for k, token in enumerate(x.tokens):
        others = (
            f"{escape(other)} {percent(float(p))}"
            for other, p in zip(x.top_tokens[k][:5], x.top_probabilities[k], strict=False)
        )
        lines.append(
            f'<tr><td class="n">{k + 1}</td><th scope="row">{escape(token)}</th>'
            f'<td class="n">{percent(float(x.probabilities[k]))}</td>'
            f'<td class="n">{x.ranks[k]}</td><td>{looks_most_at(x, k)}</td>'
            f"<td>{', '.join(others)}</td></tr>"
        )
    return "".join(lines)


def looks_most_at(x: ExplanationData, word: int) -> str:
    """Where the mean over layers and heads is largest: "row 3, column 4"."""
    patches = np.nan_to_num(x.on_patches(x.attention(word)))
    frame, row, column = np.unravel_index(int(patches.argmax()), patches.shape)
    where = f"row {row + 1}, column {column + 1}"
    return where if len(patches) == 1 else f"frame {frame + 1}, {where}"
