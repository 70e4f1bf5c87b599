"""The parts of the report that are plain HTML: sentences, tower, legend and tables.

Every name and sentence is escaped where it goes in: a foreign trace may hold any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from refgit.parity.comparison.row import Comparison, Row
from refgit.parity.diagnosis.result import Diagnosis, Finding
from refgit.parity.report.levels import SIGNS, brief, level_of, levels, times
from refgit.parity.report.tower import Layer, Section, sections
from refgit.traces.container import Trace
from refgit.traces.names import TensorName, is_input


@dataclass
class Page:
    """Makes the parts that need no JavaScript."""

    comparison: Comparison
    found: Diagnosis | None
    reference: Trace
    other: Trace

    @property
    def findings(self) -> list[Finding]:
        """Tensors that are wrong by themselves."""
        return [] if self.found is None else self.found.findings

    def verdict(self) -> str:
        """What the comparison says."""
        c = self.comparison
        word, kind = ("✓ Agrees", "good") if c.ok else ("✗ Differs", "bad")
        if c.partial and c.first is None:
            word = "✗ Agrees only in part"
        agree = sum(row.ok for row in c.rows)
        said = [text for text in c.sentences if text != c.sentence]
        return (
            f'<p class="badge {kind}">{word}</p>'
            f'<p class="lead">{_sentence(c.sentence)}</p>{_list(said)}'
            f'<p class="quiet">{agree} of {len(c.rows)} tensors agree within {c.multiple:g} × the '
            f"{escape(c.precision)} noise floor, which is {escape(c.noise)}.</p>"
        )

    def diagnosed(self) -> str:
        """What the diagnosis says, and every cause it found."""
        if self.found is None:
            return '<p class="quiet">No diagnosis was made: it needs the model (--model).</p>'
        lines = [_list(self.found.sentences, "said good" if self.found.ok else "said")]
        rows = [row for finding in self.findings for row in _causes(finding)]
        if rows:
            head = ("tensor", "own error", "cause", "made at", "left over", "note")
            count = len(self.findings)
            many = f"{count} tensors are wrong by themselves"
            title = "1 tensor is wrong by itself" if count == 1 else many
            lines.append(
                f"<details><summary>{title}: what reproduces them, best first, and what it leaves "
                "over in noise floors</summary>"
                f"{_table(head, rows)}</details>"
            )
        return "".join(lines)

    def runs(self) -> str:
        """Who made the two traces."""

        def run(trace: Trace) -> str:
            producer = trace.meta.get("producer", "not said")
            kinds = sorted({trace.dtype_of(name) for name in trace if not is_input(name)})
            model = trace.meta.get("model", "")
            more = f", model {model}" if model else ""
            return escape(f"{producer}{more}; {len(trace)} tensors of {', '.join(kinds)}")

        return (
            f"<dl><dt>Reference</dt><dd>{run(self.reference)}</dd>"
            f"<dt>Yours</dt><dd>{run(self.other)}</dd></dl>"
        )

    def detail(self, cells: tuple[int, int, int]) -> str:
        """How finely the pictures are drawn."""
        return (
            f"heat maps of at most {cells[0]} × {cells[0]} cells (tensors that agree: {cells[1]} × "
            f"{cells[1]}), each cell the largest error of its elements"
        )

    def inputs(self) -> str:
        """The table of the first call's inputs."""
        rows = [row for row in self.comparison.rows if is_input(row.name)]
        first = [row for row in rows if not TensorName.parse(row.name).prefix]
        later = [row for row in rows if TensorName.parse(row.name).prefix]
        if not rows:
            return '<p class="quiet">No inputs could be compared.</p>'
        more = ""
        if later:
            wrong = sum(not row.ok for row in later)
            more = f"<p class='quiet'>{len(later)} inputs of later calls: {wrong} differ.</p>"
        return _table(
            ("input", "yours", "shape", "stored in", "agrees", "largest difference"),
            [
                (
                    escape(row.name.removeprefix("input.")),
                    escape(row.matched),
                    _shape(row.shape),
                    escape(row.dtype),
                    "✓ yes" if row.ok else "✗ no",
                    f"{row.max_abs:.3g}",
                )
                for row in first
            ],
        ) + more  # fmt: skip

    def legend(self) -> str:
        """What the colours and signs mean."""
        entries = "".join(
            f'<li><span class="swatch k{i}" aria-hidden="true">{SIGNS[i]}</span> {meaning}</li>'
            for i, meaning in enumerate(levels(self.comparison.multiple))
        )
        marks = '<li><span class="swatch k2 first" aria-hidden="true"></span> first divergence</li>'
        if self.findings:
            marks += (
                '<li><span class="swatch k2 located" aria-hidden="true">◆</span> '
                "wrong by itself (diagnosis)</li>"
            )
        return f"<ul>{entries}{marks}</ul>"

    def tower(self) -> str:
        """All layers and tensors, as buttons."""
        return "".join(
            self._section(section) for section in sections(row.name for row in self.comparison.rows)
        )

    def _section(self, section: Section) -> str:
        rows = [i for layer in section.layers for i, _ in layer.rows]
        row = self.comparison.rows[self._worst(rows)]
        holds_first = any(self.comparison.rows[i] is self.comparison.first for i in rows)
        is_open = "" if section.step and not holds_first else " open"
        layers = "".join(self._layer(layer) for layer in section.layers)
        return (
            f"<details{is_open}><summary><span>{escape(section.title)}</span>"
            f'<span class="worst">{_sign(row)} {times(row)}</span></summary>'
            f"<ul>{layers}</ul></details>"
        )

    def _layer(self, layer: Layer) -> str:
        worst = self._worst([i for i, _ in layer.rows])
        row = self.comparison.rows[worst]
        label = f"{layer.title}: {len(layer.rows)} tensors, worst {times(row)}, {_state(row)}"
        cells = "".join(self._cell(i, short) for i, short in layer.rows)
        kind = level_of(row, self.comparison.multiple)
        return (
            f'<li><button class="layer k{kind}" data-i="{worst}" aria-label="{escape(label)}">'
            f"<span>{escape(layer.title)}</span><span>{_sign(row)} {times(row)}</span>"
            f'</button><span class="cells">{cells}</span></li>'
        )

    def _cell(self, i: int, short: str) -> str:
        c = self.comparison
        row = c.rows[i]
        level = level_of(row, c.multiple)
        kind, sign, more = f"cell k{level}", SIGNS[level], ""
        if row is c.first:
            kind, more = f"{kind} first", ", first divergence"
        if any(row.name == finding.name for finding in self.findings):
            kind, sign, more = f"{kind} located", "◆", f"{more}, wrong by itself"
        label = escape(f"{short}: {times(row)}, {_state(row)}{more}")
        return (
            f'<button class="{kind}" data-i="{i}" aria-label="{label}" title="{label}">'
            f"{sign}</button>"
        )

    def _worst(self, indices: Sequence[int]) -> int:
        """The row that represents a layer: the first of the worst ones."""
        rows = self.comparison.rows
        return max(indices, key=lambda i: (not rows[i].ok, rows[i].nan > 0, rows[i].error, -i))

    def table(self) -> str:
        """Every row with all its numbers."""
        c = self.comparison
        head = (
            "tensor", "agrees", "error in noise floors", "largest difference", "relative", "rms",
            "cosine", "ulp", "elements that differ", "worst at", "noise floor", "shape",
            "stored in", "your name", "matched by", "layout", "note",
        )  # fmt: skip
        rows = [
            (
                f'<a href="#t{i}">{escape(row.name)}</a>', "✓ yes" if row.ok else "✗ no",
                times(row), f"{row.max_abs:.3g}", f"{row.max_rel:.3g}", f"{row.rms:.3g}",
                f"{row.cosine:.9g}", f"{row.ulp:,}", f"{row.mismatching:.2%}", _shape(row.worst),
                f"{row.floor:.3g}", _shape(row.shape), escape(row.dtype), escape(row.matched),
                escape(row.how), escape(row.layout), escape(row.note),
            )
            for i, row in enumerate(c.rows)
        ]  # fmt: skip
        return _table(head, rows, ["" if row.ok else "bad" for row in c.rows])

    def unmatched(self) -> str:
        """Names without counterpart."""
        c = self.comparison
        return _names("tensors of the reference without counterpart", c.missing) + _names(
            "tensors of yours without counterpart", c.extra
        )


def _causes(finding: Finding) -> list[tuple[str, ...]]:
    start = escape(finding.name), f"{brief(finding.multiples)} ×"
    if not finding.causes:
        return [(*start, "none found", "", "", escape(finding.note))]
    return [
        (
            *start,
            escape(cause.text),
            escape(cause.node) if cause.node != finding.name else "",
            f"{brief(cause.residual)} ×",
            escape(finding.note),
        )
        for cause in finding.causes[:8]
    ]


def _sign(row: Row) -> str:
    return "✓" if row.ok else "✗"


def _state(row: Row) -> str:
    return "agrees" if row.ok else "differs"


def _sentence(text: str) -> str:
    first = text.split(" ", 1)[0]
    if not any(mark in first for mark in "._/["):  # a name stays as it is
        text = text[:1].upper() + text[1:]
    return escape(text)


def _list(sentences: Iterable[str], kind: str = "") -> str:
    lines = "".join(f"<li>{_sentence(text)}</li>" for text in sentences)
    return f'<ul class="{kind or "notes"}">{lines}</ul>' if lines else ""


def _names(title: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    lines = "".join(f"<li>{escape(name)}</li>" for name in names)
    return f"<details><summary>{len(names)} {title}</summary><ul>{lines}</ul></details>"


def _shape(shape: Sequence[int]) -> str:
    return escape(f"[{', '.join(str(n) for n in shape)}]")


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], kinds: Sequence[str] | None = None
) -> str:
    """A table of cells that are HTML already; the first of a row is its heading."""
    top = "".join(f'<th scope="col">{text}</th>' for text in head)
    lines = []
    for i, (first, *cells) in enumerate(rows):
        kind = f' class="{kinds[i]}"' if kinds and kinds[i] else ""
        data = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f'<tr{kind}><th scope="row">{first}</th>{data}</tr>')
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
