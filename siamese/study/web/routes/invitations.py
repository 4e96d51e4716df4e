"""Raters as administrators see them: links, exclusion, withdrawal."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from siamese.study.storage.entities import StudyError
from siamese.study.web.dependencies import FormToken, Store, Text, change_router
from siamese.study.web.request_limits import HOME
from siamese.study.web.routes.studies import study_page

change = change_router()


@change.post("/studies/{study}/invite")
def invite(request: Request, store: Store, csrf: FormToken, study: str, labels: Text) -> Response:
    """Make a link for each line, and show them once."""
    made = store.invite(study, [line.strip() for line in labels.splitlines() if line.strip()])
    return study_page(request, store=store, csrf=csrf, study=study, links=made)


@change.post("/raters/{rater}/{action}")
def change_rater(
    store: Store, rater: str, action: str, study: Text, reason: Text = "", sure: Text = ""
) -> Response:
    """Revoke a link, exclude or include answers, or delete them."""
    if action == "withdraw" and not sure:
        raise StudyError("nothing was deleted: it was not confirmed.")
    if action == "revoke":
        store.revoke(rater)
    elif action == "exclude":
        store.exclude(rater, reason)
    elif action == "include":
        store.exclude(rater, None)
    elif action == "withdraw":
        store.withdraw(rater)
    else:
        raise StudyError(f"there is no action {action!r}.")
    return RedirectResponse(f"{HOME}/studies/{store.study(study).config.id}", 303)


ROUTERS = (change,)
