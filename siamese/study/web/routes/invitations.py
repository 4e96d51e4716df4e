"""Raters as administrators see them: links, exclusion, withdrawal."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from siamese.study.config import MAX_TEXT_LENGTH
from siamese.study.storage.entities import NoSuchStudyError, StudyError
from siamese.study.storage.store import StudyStore
from siamese.study.web.dependencies import FormToken, Services, Text, change_router
from siamese.study.web.forms import Typed
from siamese.study.web.request_limits import HOME
from siamese.study.web.routes.studies import Refused, study_page

change = change_router()


@change.post("/studies/{study}/invite")
def invite(request: Request, services: Services, csrf: FormToken, study: str, labels: Typed = "") -> Response:
    """Make a link for each line, and show them once; after an error the lines as they were typed."""
    wanted = [line.strip() for line in labels.splitlines() if line.strip()]
    try:
        check_length(labels)
        if not wanted:
            raise StudyError("nobody was invited: write a name or a note, one line for each rater.")
        made = services.store.invite(study, wanted)
    except NoSuchStudyError:
        raise
    except StudyError as error:
        return study_page(request, services, csrf, study, refused=Refused(str(error), labels=shown(labels)))
    return study_page(request, services, csrf, study, links=made)


@change.post("/raters/{rater}/{action}")
def change_rater(
    request: Request,
    services: Services,
    csrf: FormToken,
    rater: str,
    action: str,
    study: Text,
    reason: Typed = "",
    sure: Text = "",
) -> Response:
    """Revoke a link, exclude or include answers, or delete them; after an error the reason as it was typed."""
    try:
        apply(services.store, rater, action, reason, bool(sure))
    except NoSuchStudyError:
        raise
    except StudyError as error:
        refused = Refused(str(error), rater=rater, reason=shown(reason))
        return study_page(request, services, csrf, study, refused=refused)
    return RedirectResponse(f"{HOME}/studies/{services.store.study(study).config.id}", 303)


def apply(store: StudyStore, rater: str, action: str, reason: str, sure: bool) -> None:
    """Do ``action``.

    Raises:
        StudyError: it was not done; the message says why.
    """
    if action == "withdraw" and not sure:
        raise StudyError("nothing was deleted: it was not confirmed.")
    if action == "revoke":
        store.revoke(rater)
    elif action == "exclude":
        check_length(reason)
        store.exclude(rater, reason)
    elif action == "include":
        store.exclude(rater, None)
    elif action == "withdraw":
        store.withdraw(rater)
    else:
        raise StudyError(f"there is no action {action!r}.")


def check_length(text: str) -> None:
    """Raise a StudyError if ``text`` is longer than is stored."""
    if len(text) > MAX_TEXT_LENGTH:
        raise StudyError(f"the text has {len(text)} characters; up to {MAX_TEXT_LENGTH} can be stored.")


def shown(typed: str) -> str:
    """``typed`` without null characters, which no page holds."""
    return typed.replace("\0", "")


ROUTERS = (change,)
