"""The administrator's form that makes a study, and the page that plans its size."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BeforeValidator

from siamese.study.config import ConfigError
from siamese.study.creation.folders import Note
from siamese.study.creation.planning import HEADINGS, PlanRequest, make_plan
from siamese.study.creation.service import CreateStudy, create, method_folders
from siamese.study.storage.entities import StudyError
from siamese.study.web.archive import unpack
from siamese.study.web.dependencies import FormToken, Services, change_router, read_router
from siamese.study.web.forms import CreationForm
from siamese.study.web.pages import render_page
from siamese.study.web.request_limits import HOME
from siamese.study.web.routes.studies import list_page, study_page
from siamese.study.web.threads import ADMINISTRATORS

Number = Annotated[float | None, BeforeValidator(lambda text: text or None), Query()]
"""A field that may be left empty."""
read = read_router()
change = change_router()


@change.post("/create")
def create_by_form(
    http_request: Request,
    services: Services,
    csrf: FormToken,
    form: Annotated[CreationForm, Depends(ADMINISTRATORS.beside(CreationForm))],
) -> Response:
    """Make a study as a draft; images of its sampled methods are made meanwhile. What it leaves out is shown this once."""
    notes: list[str] = []
    try:
        with tempfile.TemporaryDirectory(prefix="study-") as space:
            request = request_of(form, folders_of(form, Path(space), notes.append))
            create(services.store, request, turn=services.turn, note=notes.append)
    except (ConfigError, StudyError) as error:
        return list_page(services, csrf, str(error), 422, left_out=notes)
    if notes:
        return study_page(http_request, services.store, csrf, form.id, left_out=notes)
    return RedirectResponse(f"{HOME}/studies/{form.id}", 303)


@read.get("/plan")
def plan_page(
    csrf: FormToken, half_width: Number = None, real: Number = None, method: float = 0.5, power: float = 0.8
) -> Response:
    """How many raters and mask groups a study needs."""
    request = PlanRequest(method=method, real=real, half_width=half_width, power=power)
    return render_page(
        "plan.html",
        "Size of a study",
        csrf=csrf,
        plan=request,
        result=make_plan(request),
        headings=HEADINGS,
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
    """What the form asks for.

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
        groups=form.groups or None,
        training=form.training,
        repeats=form.repeats,
        share_known=bool(form.share_known),
        comments=bool(form.comments),
        instructions=form.instructions,
        consent=form.consent,
        seed=form.seed,
    )


ROUTERS = (read, change)
