"""Two images of a group side by side: which of them is real, with a confidence."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from siamese.study.document.blocks import REFERENCE, Section, plot, table, within_table
from siamese.study.document.plot import ReferenceLine
from siamese.study.methods import SYNTHETIC, Method, of_kind
from siamese.study.protocols.base import RatingProtocol, one_real_problem
from siamese.study.protocols.registry import register
from siamese.study.rater_names import natural
from siamese.study.statistics import JudgedPair, Pairs, PairSummary, summarise_pairs
from siamese.study.statistics.paper import Reported
from siamese.study.statistics.table import REAL

CHANCE = [ReferenceLine("chance", 0.5)]


@register
class Pairwise(RatingProtocol[PairSummary]):
    """Each synthetic image of a group is shown once beside the group's real one."""

    name = "pairwise"
    title = "Which of two is real"
    position = 2
    instructions = (
        "You will see two images side by side. One is a real photograph of a patient, the other was made by a computer. Choose the "
        "real one, then say how sure you are, from 1 (guessing) to 10 (certain)."
    )

    def method_problem(self, methods: Sequence[Method]) -> str | None:
        return one_real_problem(self.name, methods)

    def screens(self, methods: Sequence[Method], members: Mapping[str, str]) -> list[tuple[str, ...]]:
        (real,) = of_kind(methods, REAL)
        return [(members[real.name], members[m.name]) for m in of_kind(methods, SYNTHETIC)]

    def images_per_screen(self, methods: Sequence[Method]) -> int:
        return 2

    def response_problem(self, shown: Sequence[str], response: Mapping[str, Any]) -> str | None:
        fits = set(response) == {"chosen"} and response["chosen"] in shown
        return None if fits else "choose one of the two images."

    def is_correct(self, real: Collection[str], response: Mapping[str, Any]) -> bool:
        return response["chosen"] in real

    def values(self, shown: Sequence[str], response: Mapping[str, Any]) -> tuple[int, ...]:
        return tuple(int(image == response["chosen"]) for image in shown)

    def response_of(self, shown: Sequence[str], values: Sequence[int]) -> dict[str, Any]:
        return {"chosen": shown[list(values).index(1)] if sorted(values) == [0, 1] else None}

    def shows(self, screen: Sequence[str], methods: Sequence[Method]) -> bool:
        real = {m.name for m in of_kind(methods, REAL)}
        return len(screen) == len(set(screen)) == 2 and len(set(screen) & real) == 1

    def rows(
        self, screen: Sequence[str], values: Sequence[int], confidence: int | None, **about: Any
    ) -> list[Any]:
        won = list(values).index(1)
        return [JudgedPair(winner=screen[won], loser=screen[1 - won], **about)]

    def summarise(self, rows: Sequence[Any], seed: int) -> PairSummary:
        return summarise_pairs(Pairs.from_rows(rows), seed=seed)

    def sections(self, summary: PairSummary, reported: Sequence[Reported], repeats: int) -> list[Section]:
        return [
            preferences_section(summary),
            pair_detection_section(summary),
            pair_agreement_section(summary, repeats),
        ]


def preferences_section(summary: PairSummary) -> Section:
    """How often each method is taken for the real image."""
    against = [(m.method, m.beats_real) for m in summary.methods if m.beats_real is not None]
    headers = (
        "Method",
        "Pairs",
        "Chosen as real",
        "Chosen against the real image",
        "Bradley-Terry log strength",
    )
    return Section(
        "Methods",
        (f"{summary.pairs} pairs judged by {len(summary.raters)} raters, of {summary.groups} mask groups.",),
        plot(
            "Share of pairs with the real image in which the method was taken for it",
            against,
            low=0,
            high=1,
            lines=CHANCE,
        ),
        (
            table(
                "By method",
                headers,
                [
                    (m.method, m.pairs, m.chosen, m.beats_real or REFERENCE, m.strength)
                    for m in summary.methods
                ],
                (
                    "A method at 0.5 against the real image cannot be distinguished from it. The methods' mean strength is 0. Every pair weighs the same.",
                ),
            ),
        ),
    )


def pair_detection_section(summary: PairSummary) -> Section:
    """How often the real image is found, overall and by rater."""
    raters = sorted(summary.raters, key=lambda r: natural(r.rater))
    return Section(
        "Detection",
        (),
        plot(
            "Share of pairs in which the real image was found",
            [("all raters", summary.found_real), *((r.rater, r.found_real) for r in raters)],
            low=0,
            high=1,
            lines=CHANCE,
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
    )


def pair_agreement_section(summary: PairSummary, repeats: int) -> Section:
    """Agreement between raters and of raters with themselves."""
    return Section(
        "Agreement",
        tables=(
            table(
                "Between raters",
                ("Measure", "Value"),
                [("Krippendorff's alpha of the choice, nominal", summary.alpha)],
            ),
            within_table(summary.within_rater, repeats),
        ),
    )
