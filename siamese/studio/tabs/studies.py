"""The studies tab: the rating studies that are open, with the ways to rate and to administer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import gradio as gr

from siamese.studio.components import html
from siamese.studio.components.listeners import QUICK
from siamese.study.rating.open_studies import OpenStudy
from siamese.study.storage.database import StorageError

ListStudies = Callable[[], Sequence[OpenStudy]]
"""Gives the studies that are open, the newest first; raises a StorageError if they cannot be read."""
ADMINISTER, RATE, CREATE = "/study/admin", "/rate", "/study/admin#new-study"
_INTRODUCTION = (
    "In a rating study clinicians judge images without knowing which are synthetic. Raters need an invitation: "
    "a personal link that the person who runs the study sends."
)


def build_studies() -> gr.HTML:
    """The tab's one component, which ``wire_studies`` fills when the tab is entered."""
    return gr.HTML(_frame('<p class="hint">The list of studies is being read.</p>'), elem_id="studies")


def wire_studies(shown: gr.HTML, studies: ListStudies, entering: gr.Tab) -> None:
    """Have ``shown`` ask for the studies each time its tab is entered."""

    def list_studies() -> str:
        try:
            return studies_html(studies())
        except StorageError as error:
            return _frame(html.note("error", f"The studies cannot be read now: {error} Open this tab again."))

    entering.select(list_studies, None, shown, **QUICK)


def studies_html(studies: Sequence[OpenStudy]) -> str:
    """The list in HTML; titles are escaped."""
    if not studies:
        return _frame(
            f'<p>No study is open at the moment. <a href="{CREATE}">Create a study</a></p>',
        )
    return _frame(f'<ul class="studies">{"".join(map(_card, studies))}</ul>')


def _card(study: OpenStudy) -> str:
    """One study, and the way to rate it."""
    return (
        f"<li><div><h3>{escape(study.title)}</h3><p>{escape(study.kind)}. {escape(amount(study))}.</p></div>"
        f'<span class="state">Open</span>'
        f'<a class="action primary" href="{RATE}" aria-label="Rate: {escape(study.title)}">Rate</a></li>'
    )


def amount(study: OpenStudy) -> str:
    """How much a rater has to do, in words: "54 items, 4 of them for practice, about 12 minutes"."""
    duration = study.duration
    practice = f", {study.practice} of them for practice" if study.practice else ""
    items, minutes = _count(duration.screens, "item"), _count(duration.minutes, "minute")
    return f"{items}{practice}, about {minutes}{'' if duration.measured else ' (estimated)'}"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _frame(content: str) -> str:
    """``content`` below what the tab is for and the way to administer."""
    return (
        f'<section class="studies-tab" aria-labelledby="studies-heading"><div class="studies-head">'
        f'<div><h2 id="studies-heading">Rating studies</h2><p class="hint">{_INTRODUCTION}</p></div>'
        f'<a class="action" href="{ADMINISTER}">Administer</a></div>{content}</section>'
    )
