"""Whose answers a study's figures are of: the one place that decides which raters are complete.

A rater is complete who has answered every item that counts: neither practice nor shown a second time. The answers of others stay in the
exports, but count in figures only if all raters are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from siamese.study.answers.record import AnswerRecord
from siamese.study.config import StudyConfig
from siamese.study.rater_names import rater_number
from siamese.study.rating.order import MAIN

COMPLETE, ALL = "complete", "all"
"""Raters that figures are of: those who answered everything, or all with an answer."""
MAX_LISTED = 8
"""Numbers that a sentence lists one by one."""


@dataclass(frozen=True)
class Raters:
    """Raters with answers, none of them excluded, by how far they are. In the order of their invitations."""

    items: int
    """Items that count, for each rater."""
    complete: tuple[str, ...]
    """``rater 1``, ...: answered all of them."""
    partial: tuple[tuple[str, int], ...]
    """The others, with how many each has answered; 0 with answers for practice only."""


def items_answered(answers: Sequence[AnswerRecord]) -> dict[str, int]:
    """Items that count which each rater has answered; a corrected answer is one. Raters without any answer are not in it."""
    items: dict[str, set[int]] = {}
    for a in answers:
        found = items.setdefault(a.rater, set())
        if a.phase == MAIN and a.current:
            found.add(a.position)
    return {rater: len(found) for rater, found in items.items()}


def complete_raters(config: StudyConfig, answers: Sequence[AnswerRecord]) -> frozenset[str]:
    """Raters who have answered every item that counts, excluded ones too."""
    return frozenset(rater for rater, count in items_answered(answers).items() if count >= config.counted)


def raters_of(config: StudyConfig, answers: Sequence[AnswerRecord]) -> Raters:
    """How far the raters of ``answers`` are that are not excluded."""
    count = items_answered([a for a in answers if not a.excluded])
    complete = complete_raters(config, answers)
    names = sorted(count, key=rater_number)
    return Raters(
        config.counted,
        tuple(r for r in names if r in complete),
        tuple((r, count[r]) for r in names if r not in complete),
    )


def who_counts(raters: Raters, choice: str, used: Sequence[str]) -> tuple[str, ...]:
    """Sentences that say whose answers the figures are of, how many raters that is, and how much a rater weighs.

    Args:
        choice: ``COMPLETE`` or ``ALL``.
        used: raters whose answers the figures are of; with ``ALL``, those without an image of some method are not among them.
    """
    number, everybody, items = len(raters.complete), len(raters.complete) + len(raters.partial), raters.items
    if not everybody:
        return ("Nobody has answered yet.",)
    if choice == COMPLETE:
        text = [
            f"{number} of {everybody} raters with answers count: those who answered all {items} items, practice and repeats apart."
        ]
        if number:
            text.append("Each of them weighs the same in every figure.")
        if raters.partial:
            text.append(f"Excluded: {describe_partial(raters.partial, items)}.")
        return tuple(text)
    text = [
        f"{len(used)} of {everybody} raters with answers count, whether or not they answered all {items} items, practice and repeats apart: "
        f"{number} did" + (f", {describe_partial(raters.partial, items)} did not." if raters.partial else ".")
    ]
    if used:
        text.append("A rater weighs by the number of answers given.")
    if used and (
        without := [r for r in (*raters.complete, *(r for r, _ in raters.partial)) if r not in used]
    ):
        text.append(
            f"Excluded from every figure, without an answer to an image of each method so far: {', '.join(without)}."
        )
    return tuple(text)


def describe_partial(partial: Sequence[tuple[str, int]], items: int) -> str:
    """``2 raters with 1 and 9 of 48 answers``."""
    numbers = sorted(n for _, n in partial)
    if len(numbers) > MAX_LISTED:
        listed = f"{numbers[0]} to {numbers[-1]}"
    else:
        listed = " and ".join(filter(None, (", ".join(map(str, numbers[:-1])), str(numbers[-1]))))
    return f"{len(numbers)} {'rater' if len(numbers) == 1 else 'raters'} with {listed} of {items} answers"


def nobody_complete(raters: Raters) -> str | None:
    """Why there are no figures of complete raters although there are answers that count; None if there are such raters, or no such answers."""
    most = max((n for _, n in raters.partial), default=0)
    if raters.complete or not most:
        return None
    return (
        f"no rater has answered all {raters.items} items that count yet; the furthest has {most}. "
        "Wait for the first to finish, or take all raters (a link on the results page, --raters all on the command line)."
    )
