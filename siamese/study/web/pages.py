"""Templates, and the report: a study's results in one HTML file that needs nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

import jinja2
from starlette.responses import HTMLResponse

from siamese.study.answers.export import iso
from siamese.study.protocols import protocols
from siamese.study.report.results import SEED, Results
from siamese.study.report.sections import sections_of
from siamese.study.web.protocol_files import protocol_loader

Trail = Sequence[tuple[str, str]]
"""Name and address of each page above one, the outermost first."""
STYLE_SHEETS = ("look.css", "admin.css")
"""Of the administrator's pages and the report, in this order."""


@lru_cache(maxsize=1)
def templates() -> jinja2.Environment:
    """Templates that escape whatever they are given."""
    folder = str(resources.files("siamese.study.web") / "templates")
    loader = jinja2.ChoiceLoader([protocol_loader(), jinja2.FileSystemLoader(folder)])
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals["protocols"] = protocols
    environment.filters["sentence"] = sentence
    return environment


def sentence(text: str) -> str:
    """``text`` with a capital letter at the beginning."""
    return text[:1].upper() + text[1:]


class Pages:
    """The studies' pages, which share a head.

    Args:
        home: address of the studio's page, to which each page leads back; None if the studies are served alone.
    """

    def __init__(self, home: str | None = None) -> None:
        self.home = home

    def render(
        self,
        name: str,
        title: str,
        status: int = 200,
        csrf: str | None = None,
        message: str | None = None,
        trail: Trail = (),
        **values: Any,
    ) -> HTMLResponse:
        """One page.

        Args:
            name: of the template.
            csrf: token of the session's forms; None on pages for nobody in particular.
            message: what went wrong, shown above everything else. A ``note`` among ``values`` is no error.
            trail: the pages above it.
            values: what the template shows.
        """
        shown = {"note": None, "place": None, "home": self.home, "trail": trail, "title": title} | values
        text = templates().get_template(name).render(csrf=csrf, message=message, **shown)
        return HTMLResponse(text, status)

    def rating_page(self) -> bytes:
        """The raters' page: the same for everyone, with a template part and a script of each protocol."""
        page = templates().get_template("rate.html")
        return page.render(home=self.home, trail=(), title="Image rating", place="Rate", csrf=None).encode(
            "utf-8"
        )


def results_values(results: Results) -> dict[str, Any]:
    """What the results' templates show."""
    now = iso(time.time())[:19].replace("T", " ")
    return {
        "study": results.study,
        "raters": results.raters,
        "sections": sections_of(results),
        "now": now,
        "seed": SEED,
    }


def report_html(results: Results) -> str:
    """The report as a file: style within, no script, no name of a rater."""
    folder = resources.files("siamese.study.web") / "static"
    style = "".join((folder / name).read_text(encoding="utf-8") for name in STYLE_SHEETS)
    return (
        templates()
        .get_template("report.html")
        .render(title=results.study.config.title, style=style, **results_values(results))
    )
