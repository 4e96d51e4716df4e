"""A study's results as a page, and results and answers as files."""

from __future__ import annotations

from typing import Literal

from fastapi import Response

from siamese.study.answers.export import answers_csv, answers_json, read_answers
from siamese.study.answers.raters import COMPLETE
from siamese.study.report.results import read_results
from siamese.study.web.dependencies import FormToken, Services, Store, read_router
from siamese.study.web.pages import report_html, results_values
from siamese.study.web.request_limits import HOME, STUDIES

Counted = Literal["complete", "all"]
"""Raters whose answers count, as ``siamese.study.answers.raters`` names them."""
read = read_router()


def download(text: str, kind: str, name: str, encoding: str = "utf-8") -> Response:
    """A file to save; study ids are safe in a header."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.encode(encoding), media_type=kind, headers=headers)


@read.get("/studies/{study}/results")
def results(services: Services, csrf: FormToken, study: str, raters: Counted = COMPLETE) -> Response:
    """The results' page."""
    found = read_results(services.store, study, raters)
    title = found.study.config.title
    return services.pages.render(
        "results.html",
        f"Results: {title}",
        csrf=csrf,
        trail=[STUDIES, (title, f"{HOME}/studies/{found.study.config.id}")],
        place="Results",
        **results_values(found),
    )


@read.get("/studies/{study}/report.html")
def report_file(store: Store, study: str, raters: Counted = COMPLETE) -> Response:
    """The results as one file."""
    html = report_html(read_results(store, study, raters))
    return download(html, "text/html; charset=utf-8", f"{study}.html")


@read.get("/studies/{study}/answers.csv")
def answers_table(store: Store, study: str) -> Response:
    """The answers for a spreadsheet, which knows UTF-8 by its mark alone."""
    text = answers_csv(read_answers(store, study))
    return download(text, "text/csv; charset=utf-8", f"{study}.csv", "utf-8-sig")


@read.get("/studies/{study}/answers.json")
def answers_export(store: Store, study: str) -> Response:
    """The answers with the study's configuration."""
    return download(answers_json(store, read_answers(store, study)), "application/json", f"{study}.json")


ROUTERS = (read,)
