"""Templates, and the report: a study's results in one HTML file that needs nothing else."""

from __future__ import annotations

import time
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


@lru_cache(maxsize=1)
def templates() -> jinja2.Environment:
    """Templates that escape whatever they are given."""
    folder = str(resources.files("siamese.study.web") / "templates")
    loader = jinja2.ChoiceLoader([protocol_loader(), jinja2.FileSystemLoader(folder)])
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals["protocols"] = protocols
    return environment


def rating_page() -> bytes:
    """The raters' page: the same for everyone, with a template part and a script of each protocol."""
    return templates().get_template("rate.html").render().encode("utf-8")


def render_page(
    name: str,
    title: str,
    status: int = 200,
    csrf: str | None = None,
    message: str | None = None,
    **values: Any,
) -> HTMLResponse:
    """One of the administrator's pages.

    Args:
        name: of the template.
        csrf: token of the session's forms; None on pages for nobody in particular.
        message: shown above everything else.
        values: what the template shows.
    """
    text = templates().get_template(name).render(title=title, csrf=csrf, message=message, **values)
    return HTMLResponse(text, status)


def login_form(
    password: bool, huggingface: bool, status: int = 200, message: str | None = None
) -> HTMLResponse:
    """The page to log in: with a form for the ``password``, a link to Hugging Face, or both."""
    return render_page(
        "login.html", "Log in", status, message=message, password=password, huggingface=huggingface
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
    style = (resources.files("siamese.study.web") / "static" / "admin.css").read_text(encoding="utf-8")
    return (
        templates()
        .get_template("report.html")
        .render(title=results.study.config.title, style=style, **results_values(results))
    )
