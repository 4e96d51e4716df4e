"""Sections, tables and plots as plain values, and how figures are written in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from siamese.study.document.plot import Dot, ReferenceLine, dot_plot
from siamese.study.rater_names import natural
from siamese.study.statistics.agreement import WithinRater
from siamese.study.statistics.figures import Figure
from siamese.study.statistics.realism import ResponseTimes

Cell = str | int | Figure | None
MISSING = "–"
REFERENCE = "is the reference"
NO_TIMES = "no response times were recorded."
TIME_HEADERS = ("Median", "Lower quartile", "Upper quartile")


@dataclass(frozen=True)
class Table:
    """A table with its notes; numbers in cells such as ``[1]`` refer to them."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plot:
    """A picture of figures."""

    title: str
    markup: str
    """An SVG element, safe to insert."""


@dataclass(frozen=True)
class Section:
    """A heading with what belongs to it."""

    title: str
    text: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()


def number(value: float) -> str:
    """Three decimals below 10, fewer above; the sign of a rounded zero is dropped."""
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


def written(figure: Figure) -> str:
    """The figure with its interval; a dash if it is missing."""
    if figure.value is None:
        return MISSING
    if figure.low is None or figure.high is None:
        return number(figure.value)
    return f"{number(figure.value)} ({number(figure.low)} to {number(figure.high)})"


def p_value(p: float | None) -> str:
    """p as it is published."""
    return MISSING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def table(
    caption: str, headers: Sequence[str], rows: Sequence[Sequence[Cell]], notes: Sequence[str] = ()
) -> Table:
    """A table; a missing figure or interval refers to a note with its reason, and a note says whom the intervals speak for."""
    reasons: list[str] = []
    bases = list(dict.fromkeys(c.basis for row in rows for c in row if isinstance(c, Figure) and c.basis))

    def mark(reason: str) -> str:
        if reason not in reasons:
            reasons.append(reason)
        return f" [{reasons.index(reason) + 1}]"

    def cell(value: Cell) -> str:
        if not isinstance(value, Figure):
            return MISSING if value is None else str(value)
        text = written(value)
        if value.basis and len(bases) > 1:
            text += mark(f"95 % interval {value.basis}.")
        return text + (mark(full_sentence(value.reason)) if value.reason else "")

    written_rows = tuple(tuple(cell(c) for c in row) for row in rows)
    interval = (f"95 % intervals are {bases[0]}.",) if len(bases) == 1 else ()
    return Table(
        caption,
        tuple(headers),
        written_rows,
        (*interval, *notes, *(f"[{n}] {r}" for n, r in enumerate(reasons, 1))),
    )


def full_sentence(text: str) -> str:
    """``text`` with a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def plot(
    title: str,
    figures: Sequence[tuple[str, Figure]],
    low: float,
    high: float,
    lines: Sequence[ReferenceLine] = (),
) -> tuple[Plot, ...]:
    """A plot of the figures that have a value; empty if no figure has one."""
    dots = [
        Dot(label=name, value=f.value, low=f.low, high=f.high, text=written(f))
        for name, f in figures
        if f.value is not None
    ]
    return (Plot(title, dot_plot(title, dots=dots, low=low, high=high, lines=lines)),) if dots else ()


def time_cells(times: ResponseTimes) -> tuple[Cell, ...]:
    """Median and quartiles in seconds, in the order of ``TIME_HEADERS``."""
    return tuple(
        Figure(None, reason=NO_TIMES) if t is None else f"{t:.1f}"
        for t in (times.median, times.lower_quartile, times.upper_quartile)
    )


def within_table(found: Sequence[WithinRater], repeats: int, items: str = "Items twice") -> Table:
    """Agreement of raters with themselves; a note says whether the study shows anything twice (``repeats`` screens)."""
    note = (
        f"The study shows {repeats} {'screen' if repeats == 1 else 'screens'} a second time, after all others."
        if repeats
        else "The study shows nothing a second time: its configuration has repeats 0."
    )
    return table(
        "Within raters, on repeated items",
        ("Rater", items, "Same answer", "Cohen's kappa"),
        [
            (w.rater or "all raters", w.pairs, w.same, w.kappa)
            for w in sorted(found, key=lambda w: natural(w.rater))
        ],
        (note,),
    )
