"""The administrator's pages of all studies and of one: import, open, close."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import File, Request, Response, UploadFile
from fastapi.responses import RedirectResponse

from siamese.study.answers.import_answers import import_study
from siamese.study.config import MAX_TEXT_LENGTH, ConfigError
from siamese.study.storage.entities import Invitation, NoSuchStudyError, StudyError
from siamese.study.web.dependencies import (
    FormToken,
    Services,
    Store,
    StudyServices,
    Text,
    change_router,
    read_router,
)
from siamese.study.web.forms import NEW_STUDY, CreationForm, PlanForm
from siamese.study.web.request_limits import HOME, MAX_UPLOAD_BYTES, STUDIES
from siamese.web.hf_space import origin

read = read_router()
change = change_router()


@dataclass(frozen=True)
class Creation:
    """The form that makes a study, as it is shown."""

    form: CreationForm = NEW_STUDY
    problems: Mapping[str, str] = field(default_factory=dict)
    """A sentence for each field that cannot be used."""
    message: str | None = None
    """What is wrong beyond single fields."""
    left_out: Sequence[str] = ()
    """What was not read for a study that was not made."""


@dataclass(frozen=True)
class Refused:
    """A change of a study that was not made, and what was typed for it."""

    message: str
    labels: str = ""
    """Raters to invite, one a line."""
    rater: str = ""
    reason: str = ""
    """Why ``rater`` was to be excluded."""


def list_page(
    services: StudyServices,
    csrf: str,
    creation: Creation = Creation(),
    status: int = 200,
    message: str | None = None,
) -> Response:
    """All studies, with the forms to make and to import one; ``message`` is what went wrong with an import."""
    durability = services.durability
    return services.pages.render(
        "studies.html",
        "Rating studies",
        status,
        csrf=csrf,
        message=message,
        new=creation,
        studies=services.store.studies(),
        most=MAX_UPLOAD_BYTES,
        longest=MAX_TEXT_LENGTH,
        copy=durability.report() if durability else None,
        plan=PlanForm(),
    )


def study_page(
    request: Request,
    services: StudyServices,
    csrf: str,
    study: str,
    links: Sequence[Invitation] = (),
    left_out: Sequence[str] = (),
    refused: Refused | None = None,
) -> Response:
    """One study with its raters; ``links`` and ``left_out``, sentences on what is not in the study, are shown this once."""
    store = services.store
    found = store.study(study)
    return services.pages.render(
        "study.html",
        found.config.title,
        422 if refused else 200,
        csrf=csrf,
        message=refused.message if refused else None,
        trail=[STUDIES],
        typed=refused,
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
def one(request: Request, services: Services, csrf: FormToken, study: str) -> Response:
    """One study."""
    return study_page(request, services, csrf, study)


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
        return list_page(services, csrf, status=422, message=str(error))
    return RedirectResponse(f"{HOME}/studies/{study.config.id}/results", 303)


@change.post("/studies/{study}/open")
def open_study(
    request: Request,
    services: Services,
    csrf: FormToken,
    study: str,
    accept_loss: Text = "",
    accept_text: Text = "",
) -> Response:
    """Let raters begin."""
    try:
        services.store.open(study, bool(accept_loss), bool(accept_text))
    except NoSuchStudyError:
        raise
    except StudyError as error:
        return study_page(request, services, csrf, study, refused=Refused(str(error)))
    return RedirectResponse(f"{HOME}/studies/{study}", 303)


@change.post("/studies/{study}/close")
def close_study(store: Store, study: str) -> Response:
    """Take no more answers."""
    store.close(study)
    return RedirectResponse(f"{HOME}/studies/{study}", 303)


ROUTERS = (read, change)
