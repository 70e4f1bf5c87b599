"""The steps from a text to ids, mask and positions, as the bundled model's tokenizer takes them."""

from __future__ import annotations

import style

from refgit.demo import demo_path
from refgit.processing import BertTokenizer

WRITTEN, LENGTH = "RED Ápples!", 8
LEFT, WIDE, HIGH, STEP = 2.6, 1.0, 0.62, 1.0


def steps() -> list[tuple[str, list[tuple[str, int]], str]]:
    """Of each row its name, its cells (text and how many columns wide) and its colour."""
    tokenizer = BertTokenizer.from_pretrained(demo_path())
    plain = tokenizer.backend.normalizer.normalize_str(WRITTEN)
    basic = [token for token, _ in tokenizer.backend.pre_tokenizer.pre_tokenize_str(plain)]
    pieces = [tokenizer.tokenize(token) for token in basic]
    row = tokenizer(WRITTEN, padding="max_length", max_length=LENGTH)
    tokens = tokenizer.convert_ids_to_tokens(row.input_ids)
    assert tokens[1 : 1 + sum(map(len, pieces))] == [p for group in pieces for p in group]
    ones = [(str(i), 1) for i in row.attention_mask]
    return [
        ("text", [(WRITTEN, 4)], style.FAINT),
        ("normalised", [(plain, 4)], style.FAINT),
        ("basic tokens", [(b, len(p)) for b, p in zip(basic, pieces, strict=True)], style.BOTH),
        ("pieces", [(p, 1) for group in pieces for p in group], style.TEXT),
        ("special tokens, padding", [(t, 1) for t in tokens], style.TEXT),
        ("ids", [(str(i), 1) for i in row.input_ids], style.IMAGE),
        ("attention mask", ones, style.IMAGE),
        ("positions", [(str(i), 1) for i in range(LENGTH)], style.IMAGE),
    ]


def main() -> None:
    rows = steps()
    figure, axes = style.figure(7.2, 4.3)
    style.plain(axes).set(xlim=(0, LEFT + LENGTH * WIDE + 0.1), ylim=(len(rows) * STEP, -0.1))
    for number, (name, cells, colour) in enumerate(rows):
        top = number * STEP + (STEP - HIGH) / 2
        axes.text(LEFT - 0.25, top + HIGH / 2, name, ha="right", va="center", fontsize=8.5)
        column = 0 if len(cells) == LENGTH else 1
        for text, wide in cells:
            special = text.startswith("[")
            x = LEFT + column * WIDE + 0.05
            shade = style.FAINT if special else colour
            style.box(axes, x, top, wide * WIDE - 0.1, HIGH, text, shade)
            column += wide
        if number and number < 6:
            style.arrow(axes, (LEFT + 3 * WIDE, top - STEP + HIGH + 0.02), (LEFT + 3 * WIDE, top))
    style.save(figure, "08-text-and-ids")


if __name__ == "__main__":
    main()
