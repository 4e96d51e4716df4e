"""One image at a time, judged Real or Synthetic with a confidence (supplement of Siamese-Diffusion, section 9.1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from siamese.study.document.blocks import (
    REFERENCE,
    TIME_HEADERS,
    Plot,
    Section,
    Table,
    plot,
    table,
    time_cells,
    within_table,
)
from siamese.study.document.plot import ReferenceLine
from siamese.study.methods import Method, of_kind
from siamese.study.protocols.base import RatingProtocol, one_real_problem, reference_lines
from siamese.study.protocols.registry import register
from siamese.study.rater_names import natural
from siamese.study.statistics import Figure, Rating, Ratings, RatingSummary, summarise_ratings
from siamese.study.statistics.detection import Detection
from siamese.study.statistics.paper import CONFIDENCE, MOS, POLYPS, Reported
from siamese.study.statistics.table import REAL

DETECTION = ("Balanced accuracy", "Sensitivity", "Specificity", "d'", "Criterion", "ROC-AUC")
DETECTION_NOTE = (
    "Positive is synthetic. Chance is 0.5 for balanced accuracy and ROC-AUC, and 0 for d'. A criterion above 0 leans to real. "
    "ROC-AUC is of signed confidence (Synthetic +c, Real -c)."
)
MEANS = "Means over raters of each rater's own figure, by the raters' numbers of answers: the same raters and weights in every figure of a row."


@register
class RealSynthetic(RatingProtocol[RatingSummary]):
    """Each image of a group is a screen of its own."""

    name = "real_synthetic"
    title = "Real or synthetic, one at a time"
    position = 0
    datasets = (POLYPS,)
    instructions = (
        "You will see one image at a time. Decide whether it is a real photograph of a patient or was made by a computer "
        "(synthetic), then say how sure you are, from 1 (guessing) to 10 (certain). All images were prepared alike; "
        "their sharpness and size say nothing."
    )

    def method_problem(self, methods: Sequence[Method]) -> str | None:
        return one_real_problem(self.name, methods)

    def screens(self, methods: Sequence[Method], members: Mapping[str, str]) -> list[tuple[str, ...]]:
        return [(image,) for image in members.values()]

    def images_per_screen(self, methods: Sequence[Method]) -> int:
        return 1

    def share_of_real(self, methods: Sequence[Method]) -> int | None:
        return round(100 * len(of_kind(methods, REAL)) / len(methods))

    def response_problem(self, shown: Sequence[str], response: Mapping[str, Any]) -> str | None:
        fits = set(response) == {"real"} and type(response["real"]) is bool
        return None if fits else "say Real or Synthetic."

    def is_correct(self, real: Collection[str], response: Mapping[str, Any]) -> bool:
        return response["real"] == bool(real)

    def values(self, shown: Sequence[str], response: Mapping[str, Any]) -> tuple[int, ...]:
        return (int(response["real"]),)

    def response_of(self, shown: Sequence[str], values: Sequence[int]) -> dict[str, Any]:
        return {"real": {0: False, 1: True}.get(values[0])}

    def shows(self, screen: Sequence[str], methods: Sequence[Method]) -> bool:
        return len(screen) == 1

    def rows(
        self, screen: Sequence[str], values: Sequence[int], confidence: int | None, **about: Any
    ) -> list[Any]:
        if confidence is None:  # check_judgement refuses such answers
            raise ValueError("an answer of this protocol has a confidence.")
        return [Rating(method=screen[0], real=values[0], confidence=confidence, **about)]

    def summarise(self, rows: Sequence[Any], seed: int) -> RatingSummary:
        return summarise_ratings(Ratings.from_rows(rows), seed=seed)

    def sections(self, summary: RatingSummary, reported: Sequence[Reported], repeats: int) -> list[Section]:
        return [
            fooling_section(summary, reported),
            judgement_detection_section(summary),
            judgement_agreement_section(summary, repeats),
        ]

    def time_tables(self, summary: RatingSummary) -> list[Table]:
        return [
            table(
                "Seconds from image to answer, by method",
                ("Method", *TIME_HEADERS),
                [(m.method, *time_cells(m.times)) for m in summary.methods],
            )
        ]


def fooling_section(summary: RatingSummary, reported: Sequence[Reported]) -> Section:
    """MOS and confidence by method, beside the paper's."""
    methods = summary.methods
    return Section(
        "Methods",
        (f"{summary.answers} answers of {len(summary.raters)} raters to {summary.groups} mask groups.",),
        method_plots(summary, reported),
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
    )


def method_plots(summary: RatingSummary, reported: Sequence[Reported]) -> tuple[Plot, ...]:
    """Plots of the table by method."""
    methods = summary.methods
    differences = [(m.method, m.real_minus_method) for m in methods if m.real_minus_method is not None]
    return (
        *plot(
            "MOS: share judged real",
            [(m.method, m.mos) for m in methods],
            low=0,
            high=1,
            lines=reference_lines(reported, MOS),
        ),
        *plot(
            "Mean confidence, 1 to 10",
            [(m.method, m.confidence) for m in methods],
            low=1,
            high=10,
            lines=reference_lines(reported, CONFIDENCE),
        ),
        *plot(
            "Real minus method: difference of MOS",
            differences,
            low=-1,
            high=1,
            lines=[ReferenceLine("no difference", 0)],
        ),
    )


def judgement_detection_section(summary: RatingSummary) -> Section:
    """How well raters distinguish synthetic images from real ones, overall, by method and by rater."""
    raters = sorted(summary.raters, key=lambda r: natural(r.rater))
    accuracy = [
        ("all raters", summary.overall.balanced_accuracy),
        *((r.rater, r.detection.balanced_accuracy) for r in raters),
    ]
    return Section(
        "Detection",
        (DETECTION_NOTE,),
        plot("Balanced accuracy", accuracy, low=0, high=1, lines=[ReferenceLine("chance", 0.5)]),
        (
            table(
                "Overall and by method",
                ("Synthetic images", *DETECTION),
                [
                    ("all methods", *detection_cells(summary.overall)),
                    *((m.method, *detection_cells(m.detection)) for m in summary.methods if m.detection),
                ],
                (f"{MEANS} Balanced accuracy is the mean of the sensitivity and the specificity beside it.",),
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


def judgement_agreement_section(summary: RatingSummary, repeats: int) -> Section:
    """Agreement between raters and of raters with themselves."""
    agreement = summary.agreement
    return Section(
        "Agreement",
        tables=(
            table(
                "Between raters",
                ("Measure", "Value"),
                [
                    ("Fleiss' kappa of Real / Synthetic", agreement.fleiss_kappa),
                    ("Krippendorff's alpha of Real / Synthetic, nominal", agreement.alpha),
                    ("Krippendorff's alpha of signed confidence, ordinal", agreement.alpha_confidence),
                ],
                (f"Fleiss' kappa leaves out {agreement.left_out} items that not every rater has answered.",),
            ),
            within_table(summary.within_rater, repeats),
        ),
    )
