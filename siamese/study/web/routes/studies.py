"""The administrator's pages of all studies and of one: import, open, close."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import File, Request, Response, UploadFile
from fastapi.responses import RedirectResponse

from siamese.study.answers.import_answers import import_study
from siamese.study.config import DEFAULT_CONSENT, ConfigError
from siamese.study.creation.planning import PlanRequest
from siamese.study.storage.entities import Invitation, StudyError
from siamese.study.storage.store import StudyStore
from siamese.study.web.dependencies import (
    FormToken,
    Services,
    Store,
    StudyServices,
    Text,
    change_router,
    read_router,
)
from siamese.study.web.pages import render_page
from siamese.study.web.request_limits import HOME, MAX_UPLOAD_BYTES
from siamese.web.hf_space import origin

read = read_router()
change = change_router()


def list_page(
    services: StudyServices,
    csrf: str,
    message: str | None = None,
    status: int = 200,
    left_out: Sequence[str] = (),
) -> Response:
    """All studies, with the forms to make and to import one; ``left_out`` is what was not read for a study that was not made."""
    durability = services.durability
    return render_page(
        "studies.html",
        "Studies",
        status,
        csrf=csrf,
        message=message,
        left_out=left_out,
        studies=services.store.studies(),
        consent=DEFAULT_CONSENT,
        most=MAX_UPLOAD_BYTES // 2**20,
        copy=durability.report() if durability else None,
        plan=PlanRequest(),
    )


def study_page(
    request: Request,
    store: StudyStore,
    csrf: str,
    study: str,
    links: Sequence[Invitation] = (),
    left_out: Sequence[str] = (),
) -> Response:
    """One study with its raters; ``links`` and ``left_out``, sentences on what is not in the study, are shown this once."""
    found = store.study(study)
    return render_page(
        "study.html",
        found.config.title,
        csrf=csrf,
        study=found,
        raters=store.progress(study),
        links=links,
        left_out=left_out,
        texts=store.texts(study),
        text_accepted=store.text_accepted(study),
        withdrawals=store.withdrawals(study),
        warning=store.warning(),
        origin=origin() or f"{request.url.scheme}://{request.url.netloc}",
    )


@read.get("")
def studies(services: Services, csrf: FormToken) -> Response:
    """The list of studies."""
    return list_page(services, csrf)


@read.get("/studies/{study}")
def one(request: Request, store: Store, csrf: FormToken, study: str) -> Response:
    """One study."""
    return study_page(request, store, csrf, study)


@read.get("/studies/{study}/text/{item}.jpg")
def text_image(store: Store, study: str, item: str) -> Response:
    """A small copy of an image with burned-in text."""
    return Response(store.thumbnail(study, item), media_type="image/jpeg")


@change.post("/import")
def import_file(services: Services, csrf: FormToken, export: Annotated[UploadFile, File()]) -> Response:
    """Store a study's export."""
    try:
        study = import_study(services.store, export.file.read())
    except (ConfigError, StudyError) as error:
        return list_page(services, csrf, str(error), 422)
    return RedirectResponse(f"{HOME}/studies/{study.config.id}/results", 303)


@change.post("/studies/{study}/open")
def open_study(store: Store, study: str, accept_loss: Text = "", accept_text: Text = "") -> Response:
    """Let raters begin."""
    store.open(study, bool(accept_loss), bool(accept_text))
    return RedirectResponse(f"{HOME}/studies/{study}", 303)


@change.post("/studies/{study}/close")
def close_study(store: Store, study: str) -> Response:
    """Take no more answers."""
    store.close(study)
    return RedirectResponse(f"{HOME}/studies/{study}", 303)


ROUTERS = (read, change)
