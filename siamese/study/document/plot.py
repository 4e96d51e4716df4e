"""Dot-and-interval plots as SVG text: no script, no inline style, every text escaped.

Written by hand, because the page's content security policy allows no inline style, colours follow the page's light or dark theme, and a
screen reader needs the figures as text; plotting libraries give none of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT = 480, 14, 14
ROW, TOP, AXIS, LEGEND = 46, 24, 30, 18
MAX_LABEL_LENGTH = 44
"""Characters of a label that fit beside its figure."""
TICKS = 5


@dataclass(frozen=True)
class Dot:
    """One figure of a plot."""

    label: str
    value: float
    low: float | None
    """Ends of the interval; None without one."""
    high: float | None
    text: str
    """The figure as it is written."""


@dataclass(frozen=True)
class ReferenceLine:
    """A vertical line to compare with."""

    label: str
    value: float


def dot_plot(
    title: str, dots: Sequence[Dot], low: float, high: float, lines: Sequence[ReferenceLine] = ()
) -> str:
    """An SVG element: a row for each of ``dots`` on a scale from ``low`` to ``high``, and ``lines`` lettered and named below.

    Colours are the page's own (``currentColor`` and the classes ``plot-dot`` and ``plot-line``). A screen reader reads all that is shown.

    Raises:
        ValueError: the scale is empty.
    """
    if not low < high:
        raise ValueError("a plot's scale needs a lower and a higher end.")
    base = TOP + ROW * len(dots)
    height = base + AXIS + LEGEND * len(lines) + (6 if lines else 0)

    def x(value: float) -> str:
        place = (min(max(value, low), high) - low) / (high - low)
        return f"{LEFT + place * (WIDTH - LEFT - RIGHT):.1f}"

    spoken = [f"{d.label}: {d.text}." for d in dots] + [
        f"Line {letter(n)}: {line.label}." for n, line in enumerate(lines)
    ]
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg" font-size="13" fill="currentColor">',
        f"<title>{escape(title)}</title><desc>{escape(' '.join(spoken))}</desc>",
    ]
    for n in range(TICKS):
        value = low + (high - low) * n / (TICKS - 1)
        anchor = "start" if n == 0 else "end" if n == TICKS - 1 else "middle"
        parts.append(
            f'<line x1="{x(value)}" y1="{TOP}" x2="{x(value)}" y2="{base}" stroke="currentColor" stroke-opacity="0.15"/>'
            f'<text x="{x(value)}" y="{base + 16}" text-anchor="{anchor}">{value:g}</text>'
        )
    for n, line in enumerate(lines):
        parts.append(
            f'<line class="plot-line" x1="{x(line.value)}" y1="{TOP}" x2="{x(line.value)}" y2="{base}" stroke="currentColor" '
            f'stroke-width="1.5" stroke-dasharray="5 4"/>'
            f'<text class="plot-letter" x="{x(line.value)}" y="{TOP - 2 - 11 * (n % 2)}" '
            f'text-anchor="middle" font-size="11">{letter(n)}</text>'
        )
    for n, dot in enumerate(dots):
        text, middle = TOP + ROW * n + 17, TOP + ROW * n + 32
        parts.append(
            f'<text class="plot-text" x="{LEFT}" y="{text}">{escape(shorten(dot.label))}</text>'
            f'<text class="plot-text" x="{WIDTH - RIGHT}" y="{text}" text-anchor="end">{escape(dot.text)}</text>'
        )
        if dot.low is not None and dot.high is not None:
            parts.append(
                f'<line class="plot-dot" x1="{x(dot.low)}" y1="{middle}" x2="{x(dot.high)}" y2="{middle}" stroke="currentColor" '
                f'stroke-width="2.5" stroke-linecap="round"/>'
            )
        parts.append(f'<circle class="plot-dot" cx="{x(dot.value)}" cy="{middle}" r="5"/>')
    for n, line in enumerate(lines):
        parts.append(
            f'<text x="{LEFT}" y="{base + AXIS + 12 + LEGEND * n}" font-size="11">{letter(n)}: {escape(line.label)}</text>'
        )
    return "".join(parts) + "</svg>"


def letter(index: int) -> str:
    """a, b, ..., then numbers."""
    return chr(ord("a") + index) if index < 26 else str(index + 1)


def shorten(label: str) -> str:
    """``label`` with an ellipsis if it is too long for a row."""
    return label if len(label) <= MAX_LABEL_LENGTH else label[: MAX_LABEL_LENGTH - 1] + "…"
