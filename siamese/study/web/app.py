"""The study's routes on a FastAPI application: alone, or beside the Gradio page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

from fastapi import APIRouter, FastAPI

from siamese.study.creation.generated import Turn
from siamese.study.rating.session import RaterSessions
from siamese.study.storage.durability import DatasetOptions, Durability
from siamese.study.storage.location import data_directory
from siamese.study.storage.opening import OpenedStudies, open_studies
from siamese.study.web.routes.admin import install_admin
from siamese.study.web.routes.rater import rater_router
from siamese.study.web.security import HEADERS, is_study
from siamese.web.headers import AddedHeaders


def add_study_routes(app: FastAPI, studies: OpenedStudies, turn: Turn = nullcontext) -> None:
    """Put the study's routes on ``app``; before a page that is mounted at the root.

    Images for a study are sampled in ``turn``, which waits until no visitor of the studio samples.

    If the environment names a dataset repository, studies are restored from it first, and copied there until ``app`` shuts down.

    Raises:
        SetupError, StorageError: what the environment asks for is not available.
    """
    if studies.durability and studies.durability.options:
        app.include_router(copying(studies, studies.durability, studies.durability.options))
    app.include_router(rater_router(RaterSessions(studies.store)))
    install_admin(app, studies, turn)
    # Last, so that it stands before the gate: refusals have the headers too.
    app.add_middleware(AddedHeaders, headers=HEADERS, applies=is_study)


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
