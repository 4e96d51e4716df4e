"""Results in words and numbers: sections of tables and plots that the results page and the report show alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from siamese.study.report.plot import Dot, Line, dot_plot
from siamese.study.report.results import Results
from siamese.study.statistics import Figure, PairSummary, RankingSummary, RatingSummary
from siamese.study.statistics.agreement import WithinRater
from siamese.study.statistics.detection import Detection
from siamese.study.statistics.paper import CONFIDENCE, MOS
from siamese.study.statistics.realism import ResponseTimes

Cell = str | int | Figure | None
MISSING = "–"
REFERENCE = "is the reference"
NO_TIMES = "no response times were recorded."
DETECTION = ("Balanced accuracy", "Sensitivity", "Specificity", "d'", "Criterion", "ROC-AUC")
MEANS = "Means over raters of each rater's own figure, by the raters' numbers of answers: the same raters and weights in every figure of a row."
DETECTION_NOTE = (
    "Positive is synthetic. Chance is 0.5 for balanced accuracy and ROC-AUC, and 0 for d'. A criterion above 0 leans to real. "
    "ROC-AUC is of signed confidence (Synthetic +c, Real -c)."
)


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
    """The figure with its interval; a dash where it is missing."""
    if figure.value is None:
        return MISSING
    return (
        number(figure.value)
        if figure.low is None
        else f"{number(figure.value)} ({number(figure.low)} to {number(figure.high)})"
    )


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
        return text + (mark(sentence(value.reason)) if value.reason else "")

    written_rows = tuple(tuple(cell(c) for c in row) for row in rows)
    interval = (f"95 % intervals are {bases[0]}.",) if len(bases) == 1 else ()
    return Table(
        caption,
        tuple(headers),
        written_rows,
        (*interval, *notes, *(f"[{n}] {r}" for n, r in enumerate(reasons, 1))),
    )


def sentence(text: str) -> str:
    """``text`` with a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def plot(
    title: str, figures: Sequence[tuple[str, Figure]], low: float, high: float, lines: Sequence[Line] = ()
) -> tuple[Plot, ...]:
    """A plot of the figures that have a value; none where none has."""
    dots = [Dot(name, f.value, f.low, f.high, written(f)) for name, f in figures if f.value is not None]
    return (Plot(title, dot_plot(title, dots, low, high, lines)),) if dots else ()


def seconds(times: ResponseTimes) -> tuple[Cell, ...]:
    """Median and quartiles as cells."""
    return tuple(
        Figure(None, reason=NO_TIMES) if t is None else f"{t:.1f}"
        for t in (times.median, times.lower_quartile, times.upper_quartile)
    )


def detection_cells(found: Detection) -> tuple[Figure, ...]:
    """In the order of ``DETECTION``."""
    return (
        found.balanced_accuracy,
        found.sensitivity,
        found.specificity,
        found.d_prime,
        found.criterion,
        found.auc,
    )


def natural(rater: str | None) -> tuple[int, str]:
    """Sorts all raters first, then ``rater 2`` before ``rater 10``."""
    last = (rater or "").rpartition(" ")[2]
    return (-1 if rater is None else int(last) if last.isdecimal() else 0, rater or "")


def sections_of(results: Results) -> tuple[Section, ...]:
    """Everything that results pages show, in their order."""
    summary = results.summary
    found = [Section("Raters", results.who)]
    if summary is None:
        found.append(Section("Figures", (sentence(results.missing or ""),)))
    elif isinstance(summary, RatingSummary):
        found += rating_sections(summary, results)
    elif isinstance(summary, RankingSummary):
        found += ranking_sections(summary, results)
    else:
        found += pair_sections(summary, results)
    found += [
        times_section(results),
        paper_section(results),
        progress_section(results),
        exclusions_section(results),
    ]
    return tuple(found)


def reference_lines(results: Results, figure: str) -> list[Line]:
    """The paper's figures of one kind."""
    return [Line(r.label, r.value) for r in results.reported if r.figure == figure]


def rating_sections(summary: RatingSummary, results: Results) -> list[Section]:
    """Of the Real / Synthetic protocol."""
    methods, raters = summary.methods, sorted(summary.raters, key=lambda r: natural(r.rater))
    differences = [(m.method, m.real_minus_method) for m in methods if m.real_minus_method is not None]
    chance = [Line("chance", 0.5)]
    return [
        Section(
            "Methods",
            (f"{summary.answers} answers of {len(raters)} raters to {summary.groups} mask groups.",),
            (
                *plot(
                    "MOS: share judged real",
                    [(m.method, m.mos) for m in methods],
                    0,
                    1,
                    reference_lines(results, MOS),
                ),
                *plot(
                    "Mean confidence, 1 to 10",
                    [(m.method, m.confidence) for m in methods],
                    1,
                    10,
                    reference_lines(results, CONFIDENCE),
                ),
                *plot("Real minus method: difference of MOS", differences, -1, 1, [Line("no difference", 0)]),
            ),
            (
                table(
                    "By method",
                    ("Method", "Answers", "MOS", "Mean confidence", "Real minus method"),
                    [
                        (m.method, m.answers, m.mos, m.confidence, m.real_minus_method or REFERENCE)
                        for m in methods
                    ],
                    ("MOS is the share of answers Real, 0 to 1.", MEANS),
                ),
            ),
        ),
        Section(
            "Detection",
            (DETECTION_NOTE,),
            plot(
                "Balanced accuracy",
                [
                    ("all raters", summary.overall.balanced_accuracy),
                    *((r.rater, r.detection.balanced_accuracy) for r in raters),
                ],
                0,
                1,
                chance,
            ),
            (
                table(
                    "Overall and by method",
                    ("Synthetic images", *DETECTION),
                    [
                        ("all methods", *detection_cells(summary.overall)),
                        *((m.method, *detection_cells(m.detection)) for m in methods if m.detection),
                    ],
                    (
                        f"{MEANS} Balanced accuracy is the mean of the sensitivity and the specificity beside it.",
                    ),
                ),
                table(
                    "By rater",
                    ("Rater", "Answers", "Judged real", "Mean confidence", *DETECTION),
                    [
                        (r.rater, r.answers, r.judged_real, r.confidence, *detection_cells(r.detection))
                        for r in raters
                    ],
                ),
            ),
        ),
        Section(
            "Agreement",
            (),
            (),
            (
                table(
                    "Between raters",
                    ("Measure", "Value"),
                    [
                        ("Fleiss' kappa of Real / Synthetic", summary.agreement.fleiss_kappa),
                        ("Krippendorff's alpha of Real / Synthetic, nominal", summary.agreement.alpha),
                        (
                            "Krippendorff's alpha of signed confidence, ordinal",
                            summary.agreement.alpha_confidence,
                        ),
                    ],
                    (
                        f"Fleiss' kappa leaves out {summary.agreement.left_out} items that not every rater has answered.",
                    ),
                ),
                within_table(summary.within_rater, results),
            ),
        ),
    ]


def ranking_sections(summary: RankingSummary, results: Results) -> list[Section]:
    """Of the ranking protocol."""
    methods, size = summary.methods, len(summary.methods)
    test = summary.friedman
    order = sorted(range(len(summary.raters)), key=lambda n: natural(summary.raters[n]))
    lines = reference_lines(results, MOS) if size == 3 else []
    return [
        Section(
            "Methods",
            (
                f"{summary.rankings} rankings of {len(summary.raters)} raters of {summary.groups} mask groups. "
                f"Rank {size} is the best, 1 the worst.",
                *(
                    []
                    if size == 3
                    else [
                        "The paper ranked three images; with another number its ranks are on another scale and "
                        "no lines are drawn."
                    ]
                ),
            ),
            (
                *plot(
                    f"MOS: mean rank, 1 to {size}", [(m.method, m.mean_rank) for m in methods], 1, size, lines
                ),
                *plot(
                    "Share of rankings in which the method is the best",
                    [(m.method, m.ranked_best) for m in methods],
                    0,
                    1,
                    [Line("chance", 1 / size)],
                ),
            ),
            (
                table(
                    "By method",
                    ("Method", "MOS (mean rank)", "Ranked best", "Plackett-Luce log strength"),
                    [(m.method, m.mean_rank, m.ranked_best, m.strength) for m in methods],
                    ("The methods' mean strength is 0. Every ranking weighs the same.",),
                ),
                table(
                    "Mean rank by rater",
                    ("Rater", *(m.method for m in methods)),
                    [(summary.raters[n], *summary.rater_means[n]) for n in order],
                ),
            ),
        ),
        Section(
            "Tests",
            (),
            (),
            (
                table(
                    "Friedman's test on ranks averaged over raters",
                    ("Chi-squared", "Degrees of freedom", "p", "Kendall's W", "Mask groups"),
                    [
                        (
                            of_test(test.statistic, test.reason),
                            test.freedom,
                            p_value(test.p),
                            of_test(test.kendall_w, test.reason),
                            test.blocks,
                        )
                    ],
                ),
                table(
                    "Pairs: Wilcoxon's signed-rank test over mask groups",
                    ("Methods", "Mean difference of ranks", "p", "p by Holm's correction"),
                    [
                        (
                            f"{p.first} and {p.second}",
                            of_test(p.mean_difference, p.reason),
                            p_value(p.p),
                            p_value(p.p_holm),
                        )
                        for p in summary.pairs
                    ],
                ),
            ),
        ),
        Section(
            "Agreement",
            (),
            (),
            (
                table(
                    "Between raters",
                    ("Measure", "Value"),
                    [("Krippendorff's alpha of ranks, ordinal", summary.alpha)],
                ),
                within_table(summary.within_rater, results, "Images ranked twice"),
            ),
        ),
    ]


def of_test(value: float | None, reason: str | None) -> Figure:
    """A test's number, with the reason where it could not be done."""
    return Figure(value, reason=reason)


def pair_sections(summary: PairSummary, results: Results) -> list[Section]:
    """Of the pairwise protocol."""
    raters, chance = sorted(summary.raters, key=lambda r: natural(r.rater)), [Line("chance", 0.5)]
    against = [(m.method, m.beats_real) for m in summary.methods if m.beats_real is not None]
    return [
        Section(
            "Methods",
            (f"{summary.pairs} pairs judged by {len(raters)} raters, of {summary.groups} mask groups.",),
            plot(
                "Share of pairs with the real image in which the method was taken for it",
                against,
                0,
                1,
                chance,
            ),
            (
                table(
                    "By method",
                    (
                        "Method",
                        "Pairs",
                        "Chosen as real",
                        "Chosen against the real image",
                        "Bradley-Terry log strength",
                    ),
                    [
                        (m.method, m.pairs, m.chosen, m.beats_real or REFERENCE, m.strength)
                        for m in summary.methods
                    ],
                    (
                        "0.5 against the real image cannot be told from it. The methods' mean strength is 0. Every pair weighs the same.",
                    ),
                ),
            ),
        ),
        Section(
            "Detection",
            (),
            plot(
                "Share of pairs in which the real image was found",
                [("all raters", summary.found_real), *((r.rater, r.found_real) for r in raters)],
                0,
                1,
                chance,
            ),
            (
                table(
                    "Real image found",
                    ("Rater", "Pairs", "Share"),
                    [
                        ("all raters", summary.pairs, summary.found_real),
                        *((r.rater, r.pairs, r.found_real) for r in raters),
                    ],
                ),
            ),
        ),
        Section(
            "Agreement",
            (),
            (),
            (
                table(
                    "Between raters",
                    ("Measure", "Value"),
                    [("Krippendorff's alpha of the choice, nominal", summary.alpha)],
                ),
                within_table(summary.within_rater, results),
            ),
        ),
    ]


def within_table(found: Sequence[WithinRater], results: Results, items: str = "Items twice") -> Table:
    """Agreement of raters with themselves; a note says whether the study shows anything twice."""
    repeats = results.study.config.repeats
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


def times_section(results: Results) -> Section:
    """How long answers took."""
    if results.summary is None:
        return Section("Response times", ("None without figures.",))
    headers = ("Median", "Lower quartile", "Upper quartile")
    tables = [
        table(
            "Seconds from image to answer, by rater",
            ("Rater", *headers),
            [(t.rater or "all raters", *seconds(t.times)) for t in results.times],
        )
    ]
    if isinstance(results.summary, RatingSummary):
        tables.append(
            table(
                "Seconds from image to answer, by method",
                ("Method", *headers),
                [(m.method, *seconds(m.times)) for m in results.summary.methods],
            )
        )
    return Section(
        "Response times",
        ("By the rater's browser. A corrected answer counts with the time of its correction.",),
        (),
        tuple(tables),
    )


def paper_section(results: Results) -> Section:
    """What the paper reports."""
    if not results.reported:
        return Section("As reported by the paper", ("The paper has no study of this protocol.",))
    rows = [(r.dataset, r.method, r.figure, f"{r.value:g}", r.protocol, r.source) for r in results.reported]
    return Section(
        "As reported by the paper",
        ("Not measured with this app. The paper gives neither intervals nor raw answers.",),
        (),
        (
            table(
                "Siamese-Diffusion", ("Data set", "Method", "Figure", "Value", "What it is", "Source"), rows
            ),
        ),
    )


def progress_section(results: Results) -> Section:
    """How far the raters are."""
    if not results.progress:
        return Section("Progress", ("Nobody is invited yet.",))
    done = sum(p.answered >= p.screens for p in results.progress)
    return Section(
        "Progress",
        (f"{done} of {len(results.progress)} raters have finished.",),
        (),
        (
            table(
                "Screens answered, practice included",
                ("Rater", "Answered", "Of", "Items that count", "State"),
                [
                    (
                        p.rater,
                        p.answered,
                        p.screens,
                        f"{p.counted} of {results.study.config.counted}",
                        "excluded"
                        if p.excluded
                        else "finished"
                        if p.answered >= p.screens
                        else "under way"
                        if p.answered
                        else "not begun",
                    )
                    for p in results.progress
                ],
            ),
        ),
    )


def exclusions_section(results: Results) -> Section:
    """What is left out and why."""
    rows = [
        (e.rater or "all raters", e.answers, e.reason)
        for e in sorted(results.exclusions, key=lambda e: natural(e.rater))
    ]
    text = [] if rows else ["Nothing is left out."]
    text += (
        [f"{results.corrections} answers were corrected by their rater; the corrections count."]
        if results.corrections
        else []
    )
    text += [
        f"A rater's data was deleted ({w.answers_deleted} answers), asked for by the {w.requested_by}."
        for w in results.withdrawals
    ]
    return Section(
        "Left out",
        tuple(text),
        (),
        (table("Answers left out", ("Rater", "Answers", "Reason"), rows),) if rows else (),
    )
