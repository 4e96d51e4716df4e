"""The administrator's form that makes a study, and the page that plans its size."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from siamese.study.config import ConfigError
from siamese.study.creation.folders import Note
from siamese.study.creation.planning import HEADINGS, PlanRequest, make_plan
from siamese.study.creation.service import CreateStudy, create, method_folders
from siamese.study.statistics.table import StatisticsError
from siamese.study.storage.entities import StudyError
from siamese.study.web.archive import unpack
from siamese.study.web.creation_check import creation_problems
from siamese.study.web.dependencies import FormToken, Services, Store, change_router, read_router
from siamese.study.web.forms import CreationForm, PlanForm
from siamese.study.web.request_limits import HOME, STUDIES
from siamese.study.web.routes.studies import Creation, list_page, study_page
from siamese.study.web.threads import ADMINISTRATORS

Created = Annotated[CreationForm, Depends(ADMINISTRATORS.beside(CreationForm))]
Planned = Annotated[PlanForm, Depends(ADMINISTRATORS.beside(PlanForm))]
read = read_router()
change = change_router()


@change.post("/create")
def create_by_form(http_request: Request, services: Services, csrf: FormToken, form: Created) -> Response:
    """Make a study as a draft; images of its sampled methods are made meanwhile. What it leaves out is shown this once.

    After an error the form comes back as it was typed.
    """
    notes: list[str] = []
    problems = creation_problems(form, services.store)
    if problems:
        return list_page(services, csrf, Creation(form, problems), 422)
    try:
        with tempfile.TemporaryDirectory(prefix="study-") as space:
            request = request_of(form, folders_of(form, Path(space), notes.append))
            create(services.store, request, turn=services.turn, note=notes.append)
    except (ConfigError, StudyError) as error:
        return list_page(services, csrf, Creation(form, message=str(error), left_out=notes), 422)
    if notes:
        return study_page(http_request, services, csrf, form.id, left_out=notes)
    return RedirectResponse(f"{HOME}/studies/{form.id}", 303)


@change.post("/create/check")
def check_form(store: Store, form: Created) -> Response:
    """What is wrong with the fields, by their names: asked for by the page's script before the ZIP file is sent."""
    return JSONResponse({"problems": creation_problems(form, store)})


@read.get("/plan")
def plan_page(services: Services, csrf: FormToken, form: Planned) -> Response:
    """How many raters and mask groups a study needs; after an error the form as it was typed."""
    try:
        result, message = make_plan(plan_request(form)), None
    except (StatisticsError, ValueError) as error:
        result, message = None, str(error)
    return services.pages.render(
        "plan.html",
        "Size of a study",
        422 if message else 200,
        csrf=csrf,
        message=message,
        trail=[STUDIES],
        plan=form,
        result=result,
        headings=HEADINGS,
    )


def plan_request(form: PlanForm) -> PlanRequest:
    """What the form asks for.

    Raises:
        ValueError: a field is no number; the message names it.
    """

    def number(text: str, name: str) -> float:
        try:
            return float(text)
        except ValueError as error:
            raise ValueError(f"{name} must be a number such as 0.1, not {text[:40]!r}.") from error

    def optional(text: str, name: str) -> float | None:
        return number(text, name) if text.strip() else None

    return PlanRequest(
        method=number(form.method, "the share of the synthetic images"),
        real=optional(form.real, "the share of the real images"),
        half_width=optional(form.half_width, "the half width"),
        power=number(form.power, "the probability"),
    )


def folders_of(form: CreationForm, space: Path, note: Note) -> dict[str, Path]:
    """The folders of an upload, unpacked to ``space``, or of a folder on the server. ``note`` is called with what is not read.

    Raises:
        ConfigError: neither is given or can be read.
    """
    if form.archive is not None and form.archive.filename:
        return unpack(form.archive.file, space, note)
    if not form.folder.strip():
        raise ConfigError(["choose a ZIP file, or name a folder on the server."])
    return method_folders(Path(form.folder.strip()), note)


def request_of(form: CreationForm, folders: dict[str, Path]) -> CreateStudy:
    """What the form asks for, which ``creation_problems`` has found nothing against.

    Raises:
        ConfigError: the folder of masks is not among ``folders``.
    """
    masks = form.masks.strip()
    if masks and masks not in folders:
        raise ConfigError([f"there is no folder {masks!r} beside the methods' folders."])
    return CreateStudy(
        id=form.id,
        title=form.title,
        protocol=form.protocol,
        organ=form.organ,
        folders=folders,
        real=tuple(name.strip() for name in form.real.split(",") if name.strip()),
        sampled=tuple(line for line in form.sample.splitlines() if line.strip()),
        masks=folders[masks] if masks else None,
        groups=int(form.groups) or None,
        training=int(form.training or 0),
        repeats=int(form.repeats or 0),
        share_known=bool(form.share_known),
        comments=bool(form.comments),
        instructions=form.instructions,
        consent=form.consent,
        seed=int(form.seed or 0),
    )


ROUTERS = (read, change)
