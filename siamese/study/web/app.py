"""The study's routes on a FastAPI application: alone, or beside the Gradio page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from itertools import chain
from pathlib import Path

from fastapi import APIRouter, FastAPI

from siamese.study.creation.generated import Turn
from siamese.study.rating.session import RaterSessions
from siamese.study.storage.durability import DatasetOptions, Durability
from siamese.study.storage.location import data_directory
from siamese.study.storage.opening import OpenedStudies, open_studies
from siamese.study.web.auth import Administrator
from siamese.study.web.dependencies import StudyServices
from siamese.study.web.oauth import HuggingFaceLogin, oauth_settings
from siamese.study.web.pages import Pages
from siamese.study.web.rating_files import load_rating_files
from siamese.study.web.refusals import install_errors, refusal
from siamese.study.web.request_limits import CALLBACK, RequestLimits
from siamese.study.web.routes import creation, downloads, entry, invitations, login, rater
from siamese.study.web.routes import studies as studies_pages
from siamese.study.web.security import HEADERS, is_study
from siamese.web.headers import AddedHeaders
from siamese.web.inputs import CheckedInput

ADMIN = (login, studies_pages, creation, invitations, downloads)
"""Modules of the administrator's routes."""


def add_study_routes(
    app: FastAPI, studies: OpenedStudies, turn: Turn = nullcontext, home: str | None = None
) -> None:
    """Put the study's routes on ``app``; before a page that is mounted at the root.

    Images for a study are sampled in ``turn``, which waits until no visitor of the studio samples. The pages lead back to ``home``, the
    address of the studio's page; None if there is no studio.

    If the environment names a dataset repository, studies are restored from it first, and copied there until ``app`` shuts down.

    Raises:
        SetupError, StorageError: what the environment asks for is not available.
    """
    if studies.durability and studies.durability.options:
        app.include_router(copying(studies, studies.durability, studies.durability.options))
    app.state.studies = services_of(studies, turn, home)
    for router in (entry.router, rater.router, *chain.from_iterable(module.ROUTERS for module in ADMIN)):
        app.include_router(router)
    install_errors(app)
    app.add_middleware(CheckedInput, refuse=refusal)
    app.add_middleware(RequestLimits, administrator=app.state.studies.administrator, refuse=refusal)
    # Last, so that it stands before the request limits: refusals have the headers too.
    app.add_middleware(AddedHeaders, headers=HEADERS, applies=is_study)


def services_of(studies: OpenedStudies, turn: Turn = nullcontext, home: str | None = None) -> StudyServices:
    """What the routes work with.

    Raises:
        SetupError: the environment names users, and something for their log-in is missing.
    """
    settings = oauth_settings(CALLBACK)
    pages = Pages(home)
    administrator = Administrator(studies.folder, users=settings.users if settings else ())
    return StudyServices(
        store=studies.store,
        sessions=RaterSessions(studies.store),
        administrator=administrator,
        huggingface=HuggingFaceLogin(settings, administrator.key) if settings else None,
        turn=turn,
        pages=pages,
        files=load_rating_files(pages),
        durability=studies.durability,
    )


def copying(studies: OpenedStudies, durability: Durability, options: DatasetOptions) -> APIRouter:
    """Begin to copy the studies to their dataset repository; the router has no routes, it pushes a last time at the shutdown."""
    from siamese.study.backup.hub import start_copy

    copy = start_copy(studies.store, studies.folder, options)
    durability.copy, studies.store.changed = copy, copy.trigger

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(copy.close)

    return APIRouter(lifespan=lifespan)


def mount_studies(
    app: FastAPI, data: str | Path | None, url: str | None = None, turn: Turn = nullcontext
) -> OpenedStudies:
    """Open the studies of a data directory and put their routes on ``app``; see ``add_study_routes``.

    Raises:
        SetupError, StorageError: the data directory or database cannot be used.
    """
    studies = open_studies(data_directory(data), url)
    add_study_routes(app, studies, turn)
    return studies


def study_app(data: str | Path | None = None, url: str | None = None) -> FastAPI:
    """The stand-alone application: studies and nothing else, no documentation pages. See ``mount_studies`` for errors."""
    app = FastAPI(title="Rating studies", docs_url=None, redoc_url=None, openapi_url=None)
    mount_studies(app, data, url)
    return app
