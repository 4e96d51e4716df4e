"""The page to log in."""

from __future__ import annotations

from starlette.responses import HTMLResponse

from siamese.study.web.dependencies import StudyServices
from siamese.study.web.request_limits import STUDIES


def login_form(
    services: StudyServices, status: int = 200, message: str | None = None, note: str | None = None
) -> HTMLResponse:
    """The page to log in: with a form for the password, a link to Hugging Face, or both.

    Args:
        message: what went wrong.
        note: what is to know, without anything wrong.
    """
    return services.pages.render(
        "login.html",
        "Log in to administer studies",
        status,
        message=message,
        note=note,
        trail=[STUDIES],
        place="Log in",
        password=services.administrator.has_password,
        huggingface=services.huggingface is not None,
    )
