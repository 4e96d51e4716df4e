"""What a rating protocol has to say: which screens it shows, which answers fit, what they mean and how results are reported.

A protocol is one subclass of ``RatingProtocol`` in a module of this package, one template part and one script of its own (see
``RatingProtocol.assets``). Nothing else in the program knows any protocol by name. Images are known here by ids that say nothing of their
method; ``shown`` is always the images of one screen from left to right.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from siamese.study.document.blocks import Section, Table
from siamese.study.document.plot import ReferenceLine
from siamese.study.methods import KINDS, Method
from siamese.study.statistics.paper import Reported
from siamese.study.statistics.table import CONFIDENCES

MAX_IMAGES = 9
"""Images of one screen: more than there are digit keys cannot be judged by keyboard, nor be compared side by side."""

Summary = TypeVar("Summary")
"""Figures of one protocol, such as ``RatingSummary``: with ``raters`` (names, or values that have a ``rater``) and ``exclusions``."""


class RatingProtocol(ABC, Generic[Summary]):
    """One way to show images and to judge them."""

    name: ClassVar[str]
    """In configurations and exports; also names the template and the script. Lower-case letters and underscores."""
    title: ClassVar[str]
    """In lists to choose from."""
    instructions: ClassVar[str]
    """What raters read if the study has no text of its own."""
    position: ClassVar[int] = 100
    """Place in lists, the first is the default; protocols of equal position come in alphabetical order."""
    has_confidence: ClassVar[bool] = True
    """Whether raters say how sure they are, from 1 to 10."""
    datasets: ClassVar[tuple[str, ...]] = ()
    """Data sets that the paper rates by this protocol."""
    assets: ClassVar[Path | None] = None
    """Folder with the template ``<name>.html`` and the script ``<name>.js``; None for those in ``siamese/study/web``."""

    # The study

    @abstractmethod
    def method_problem(self, methods: Sequence[Method]) -> str | None:
        """Why a study of ``methods`` cannot be rated like this, as a sentence; None if it can."""

    @abstractmethod
    def screens(self, methods: Sequence[Method], members: Mapping[str, str]) -> list[tuple[str, ...]]:
        """The screens of one mask group: image ids by screen, from ``members``, an image id by the method's name."""

    def screens_per_group(self, methods: Sequence[Method]) -> int:
        """Number of screens that one mask group yields."""
        return len(self.screens(methods, {m.name: m.name for m in methods}))

    @abstractmethod
    def images_per_screen(self, methods: Sequence[Method]) -> int:
        """Images that one screen shows, 1 to ``MAX_IMAGES``."""

    def share_of_real(self, methods: Sequence[Method]) -> int | None:
        """Percentage of real images, which raters may be shown if the study says so; None if this protocol does not show it."""
        return None

    # An answer

    @abstractmethod
    def response_problem(self, shown: Sequence[str], response: Mapping[str, Any]) -> str | None:
        """Why ``response``, untrusted JSON, does not fit the images shown, as a sentence for the rater; None if it fits."""

    def answer_problem(
        self, shown: Sequence[str], response: Mapping[str, Any], confidence: object
    ) -> str | None:
        """Why a response with its confidence does not fit; None if it fits."""
        problem = self.response_problem(shown, response)
        if problem:
            return problem
        low, high = CONFIDENCES
        if not self.has_confidence:
            return None if confidence is None else "answers of this protocol have no confidence."
        if type(confidence) is int and low <= confidence <= high:
            return None
        return f"say how sure you are, from {low} to {high}."

    @abstractmethod
    def is_correct(self, real: Collection[str], response: Mapping[str, Any]) -> bool:
        """Whether a response that fits is right, for the feedback on a practice screen with these ``real`` images."""

    @abstractmethod
    def values(self, shown: Sequence[str], response: Mapping[str, Any]) -> tuple[int, ...]:
        """The response as numbers, one for each image shown (or one for the screen), as exports have it."""

    @abstractmethod
    def response_of(self, shown: Sequence[str], values: Sequence[int]) -> dict[str, Any]:
        """The inverse of ``values``, for imports. What does not fit gives a response that ``response_problem`` refuses."""

    @abstractmethod
    def shows(self, screen: Sequence[str], methods: Sequence[Method]) -> bool:
        """Whether a screen of this study can show images of the methods named in ``screen``."""

    # Results

    @abstractmethod
    def rows(
        self, screen: Sequence[str], values: Sequence[int], confidence: int | None, **about: Any
    ) -> list[Any]:
        """Rows of one answer for the statistics.

        Args:
            screen: method of each image shown, the real ones called ``real`` if there is one real method.
            values: see ``values``.
            about: ``rater``, ``group``, ``seconds``, ``repeat`` and ``training`` of each row.
        """

    def rows_per_answer(self, methods: Sequence[Method]) -> int:
        """Number of rows that ``rows`` makes of one answer."""
        return 1

    @abstractmethod
    def summarise(self, rows: Sequence[Any], seed: int) -> Summary:
        """All figures of ``rows``; the same seed gives the same figures.

        Raises:
            siamese.study.statistics.StatisticsError: there is nothing to analyse; the message says what to do.
        """

    @abstractmethod
    def sections(self, summary: Summary, reported: Sequence[Reported], repeats: int) -> list[Section]:
        """The figures as sections of the results page and the report.

        Args:
            reported: what the paper reports of ``datasets``.
            repeats: screens that the study shows a second time.
        """

    def time_tables(self, summary: Summary) -> list[Table]:
        """Tables of response times beside the one by rater."""
        return []


def one_real_problem(name: str, methods: Sequence[Method]) -> str | None:
    """The problem of protocols that compare synthetic images with those of one real method."""
    real, synthetic = (sum(m.kind == kind for m in methods) for kind in KINDS)
    if real == 1 and synthetic:
        return None
    return f"{name} needs exactly one real and at least one synthetic method, not {real} and {synthetic}."


def reference_lines(reported: Sequence[Reported], figure: str) -> list[ReferenceLine]:
    """The paper's figures of one kind, to be drawn in a plot."""
    return [ReferenceLine(r.label, r.value) for r in reported if r.figure == figure]
