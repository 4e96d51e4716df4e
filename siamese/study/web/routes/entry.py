"""The page on which a rater enters an invitation."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from siamese.study.rating.errors import NoSuchLinkError, SessionError
from siamese.study.web.dependencies import Services, StudyServices
from siamese.study.web.threads import RATERS
from siamese.web.hf_space import origin

INVITATION = re.compile(r"(?:\S*/rate/)?([A-Za-z0-9_-]{8,100})(?:[/?#]\S*)?")
"""A rater's link, or the part of it that is theirs."""

router = APIRouter(include_in_schema=False, route_class=RATERS.route)


@router.get("/rate")
@router.get("/rate/")
def entry_page(request: Request, services: Services) -> Response:
    """The form, empty."""
    return show(request, services)


@router.post("/rate")
def enter(request: Request, services: Services, invitation: Annotated[str, Form()] = "") -> Response:
    """Go on to the rater's own page; with a link that does not work, say why and keep what was typed."""
    try:
        found = INVITATION.fullmatch(invitation.strip())
        if found is None:
            raise NoSuchLinkError(
                "this is not an invitation. It is a link with /rate/ and 32 letters, digits, hyphens and underscores after it."
            )
        services.sessions.check_link(found[1])
    except SessionError as error:
        return show(request, services, status=error.status, message=str(error), typed=invitation)
    return RedirectResponse(f"/rate/{found[1]}", 303)


def show(
    request: Request, services: StudyServices, status: int = 200, message: str | None = None, typed: str = ""
) -> Response:
    """The page with what was ``typed``."""
    here = origin() or f"{request.url.scheme}://{request.url.netloc}"
    return services.pages.render(
        "enter.html", "Rate a study", status, message=message, typed=typed.replace("\0", ""), origin=here
    )
