"""A group's images side by side, ranked by realism (supplement of Siamese-Diffusion, section 9.1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from siamese.study.document.blocks import Section, p_value, plot, table, within_table
from siamese.study.document.plot import ReferenceLine
from siamese.study.methods import Method
from siamese.study.protocols.base import MAX_IMAGES, RatingProtocol, reference_lines
from siamese.study.protocols.registry import register
from siamese.study.rater_names import natural
from siamese.study.statistics import Figure, Rankings, RankingSummary, summarise_rankings
from siamese.study.statistics.paper import ISIC2016, ISIC2018, MOS, Reported
from siamese.study.statistics.table import RankedImage

PAPER_SIZE = 3
"""Images that the paper ranks at a time; its mean ranks are on this scale."""


@register
class Ranking(RatingProtocol[RankingSummary]):
    """A group is one screen with all its images; the highest rank is the best."""

    name = "ranking"
    title = "Ranking, side by side"
    position = 1
    has_confidence = False
    datasets = (ISIC2016, ISIC2018)
    instructions = (
        "You will see several images of the same outline side by side. Rank them by how realistic they are: the highest number is "
        "the best. No two images share a rank. All images were prepared alike; their sharpness and size say nothing."
    )

    def method_problem(self, methods: Sequence[Method]) -> str | None:
        if 2 <= len(methods) <= MAX_IMAGES:
            return None
        return f"{self.name} needs 2 to {MAX_IMAGES} methods, not {len(methods)}."

    def screens(self, methods: Sequence[Method], members: Mapping[str, str]) -> list[tuple[str, ...]]:
        return [tuple(members.values())]

    def images_per_screen(self, methods: Sequence[Method]) -> int:
        return len(methods)

    def response_problem(self, shown: Sequence[str], response: Mapping[str, Any]) -> str | None:
        ranks = response.get("ranks") if set(response) == {"ranks"} else None
        fits = (
            isinstance(ranks, dict)
            and set(ranks) == set(shown)
            and all(type(r) is int for r in ranks.values())
            and sorted(ranks.values()) == list(range(1, len(shown) + 1))
        )
        return None if fits else f"give each image a rank of its own, from 1 to {len(shown)}."

    def is_correct(self, real: Collection[str], response: Mapping[str, Any]) -> bool:
        """Whether the real images are above the others."""
        ranks = response["ranks"]
        best = sorted(ranks, key=ranks.get)[len(ranks) - len(real) :]
        return best == sorted(real, key=ranks.get)

    def values(self, shown: Sequence[str], response: Mapping[str, Any]) -> tuple[int, ...]:
        return tuple(response["ranks"][image] for image in shown)

    def response_of(self, shown: Sequence[str], values: Sequence[int]) -> dict[str, Any]:
        return {"ranks": dict(zip(shown, values, strict=True))}

    def shows(self, screen: Sequence[str], methods: Sequence[Method]) -> bool:
        return sorted(screen) == sorted({m.name for m in methods})

    def rows(
        self, screen: Sequence[str], values: Sequence[int], confidence: int | None, **about: Any
    ) -> list[Any]:
        return [RankedImage(method=m, rank=r, **about) for m, r in zip(screen, values, strict=True)]

    def rows_per_answer(self, methods: Sequence[Method]) -> int:
        return len(methods)

    def summarise(self, rows: Sequence[Any], seed: int) -> RankingSummary:
        return summarise_rankings(Rankings.from_rows(rows), seed=seed)

    def sections(self, summary: RankingSummary, reported: Sequence[Reported], repeats: int) -> list[Section]:
        return [
            ranks_section(summary, reported),
            tests_section(summary),
            rank_agreement_section(summary, repeats),
        ]


def ranks_section(summary: RankingSummary, reported: Sequence[Reported]) -> Section:
    """Mean ranks by method and by rater; the paper's are drawn if they are on the same scale."""
    methods, size = summary.methods, len(summary.methods)
    order = sorted(range(len(summary.raters)), key=lambda n: natural(summary.raters[n]))
    text = [
        f"{summary.rankings} rankings of {len(summary.raters)} raters of {summary.groups} mask groups. "
        f"Rank {size} is the best, 1 the worst."
    ]
    if size != PAPER_SIZE:
        text.append(
            "The paper ranked three images; with another number its ranks are on another scale and no lines are drawn."
        )
    ranks, best = (
        [(m.method, m.mean_rank) for m in methods],
        [(m.method, m.ranked_best) for m in methods],
    )
    lines = reference_lines(reported, MOS) if size == PAPER_SIZE else []
    chance = [ReferenceLine("chance", 1 / size)]
    return Section(
        "Methods",
        tuple(text),
        (
            *plot(f"MOS: mean rank, 1 to {size}", ranks, low=1, high=size, lines=lines),
            *plot("Share of rankings in which the method is the best", best, low=0, high=1, lines=chance),
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
    )


def tests_section(summary: RankingSummary) -> Section:
    """Friedman's test of all methods and Wilcoxon's of each pair."""
    test = summary.friedman
    return Section(
        "Tests",
        tables=(
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
    )


def of_test(value: float | None, reason: str | None) -> Figure:
    """A test's number, with the reason if the test could not be done."""
    return Figure(value, reason=reason)


def rank_agreement_section(summary: RankingSummary, repeats: int) -> Section:
    """Agreement between raters and of raters with themselves."""
    return Section(
        "Agreement",
        tables=(
            table(
                "Between raters",
                ("Measure", "Value"),
                [("Krippendorff's alpha of ranks, ordinal", summary.alpha)],
            ),
            within_table(summary.within_rater, repeats, "Images ranked twice"),
        ),
    )
