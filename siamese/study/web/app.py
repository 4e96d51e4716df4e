"""The study's routes on a FastAPI application: alone, or beside the Gradio page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

from fastapi import APIRouter, FastAPI

from siamese.study.creation.generated import Turn
from siamese.study.rating.session import RaterSessions
from siamese.study.storage.database import Database
from siamese.study.storage.durability import Durability, dataset_options
from siamese.study.storage.location import data_directory, database_url
from siamese.study.storage.store import StudyStore
from siamese.study.web.routes.admin import install_admin
from siamese.study.web.routes.rater import rater_router
from siamese.study.web.security import HEADERS, is_study
from siamese.web.headers import AddedHeaders


def open_store(folder: Path, url: str | None = None) -> StudyStore:
    """Studies in ``folder``, or at ``url``; see ``siamese.study.storage.location``.

    Raises:
        PlaceError, StorageError: it cannot be opened.
    """
    options, database = dataset_options(), Database(database_url(folder, url))
    return StudyStore(database, Durability(folder, database.sqlite, options))


def add_study_routes(app: FastAPI, store: StudyStore, folder: Path, turn: Turn = nullcontext) -> None:
    """Put the study's routes on ``app``; before a page that is mounted at the root. ``folder`` is the data directory.

    Images for a study are sampled in ``turn``, which waits until it is theirs where others sample, too.

    Where the environment names a dataset repository, studies are restored from it first, and copied there until ``app`` shuts down.

    Raises:
        PlaceError, StorageError: what the environment asks for cannot be had.
    """
    if store.durability and store.durability.options:
        app.include_router(copying(store, folder))
    app.include_router(rater_router(RaterSessions(store)))
    install_admin(app, store, folder, turn)
    app.add_middleware(
        AddedHeaders, headers=HEADERS, applies=is_study
    )  # last, so that it stands before the gate: refusals have the headers too


def copying(store: StudyStore, folder: Path) -> APIRouter:
    """Begin to copy ``store`` to its dataset repository; the router, which has no routes, pushes a last time at the shutdown."""
    from siamese.study.backup.hub import start_copy

    copy = start_copy(store, folder, store.durability.options)
    store.durability.copy, store.changed = copy, copy.trigger

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(copy.close)

    return APIRouter(lifespan=lifespan)


def study_app(data: str | Path | None = None, url: str | None = None) -> FastAPI:
    """The stand-alone application: studies and nothing else, no documentation pages.

    Raises:
        PlaceError, StorageError: the data directory or database cannot be used.
    """
    folder = data_directory(data)
    app = FastAPI(title="Rating studies", docs_url=None, redoc_url=None, openapi_url=None)
    add_study_routes(app, open_store(folder, url), folder)
    return app
