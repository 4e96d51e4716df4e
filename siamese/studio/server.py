"""Launching: the page, the rating studies, and what is cleaned up beside them."""

from __future__ import annotations

import functools
import logging
import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import cast

import gradio as gr
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from siamese.files.folders import purge_folders
from siamese.studio.backend.queue import ASKING_ALL, ModelWorker
from siamese.studio.backend.turns import WAITING_ALL
from siamese.studio.components.canvas import STATIC_PATH
from siamese.studio.page import build_page
from siamese.studio.storage.collections import Collections
from siamese.studio.theme import FAVICON, STATIC, STYLE_SHEETS, page_head, theme
from siamese.studio.visitors.cache import caching
from siamese.studio.visitors.cookie import VisitorCookies
from siamese.studio.visitors.guard import guard_page
from siamese.studio.visitors.limits import MAX_UPLOAD_BYTES
from siamese.studio.visitors.memory import give_memory_back
from siamese.studio.visitors.upload_folder import TemporaryFolder
from siamese.studio.visitors.values import Values, tell_faults
from siamese.study.rating.open_studies import OpenStudies
from siamese.study.storage.location import data_directory
from siamese.study.storage.opening import open_studies
from siamese.study.web.app import add_study_routes
from siamese.web.access import StudioAccess
from siamese.web.data_folder import default_folder
from siamese.web.headers import studio_headers
from siamese.web.hf_space import frame_ancestors
from siamese.web.serving import WebServer

log = logging.getLogger(__name__)

LIFETIME = timedelta(days=7)
"""How long what a visitor keeps stays without a visit."""
THREADS = WAITING_ALL + ASKING_ALL + 32
"""Of Gradio's functions: for all that may wait for the model, and some that do not. The studies' routes have others."""
ADMINISTRATOR = "the studies' administrator"
"""Whose turn it is if images are sampled for a study; no visitor has this name."""
TIDY_SECONDS = 60
"""Between two looks at what visitors have not used for an hour."""


def data_folder(chosen: Path | None) -> Path:
    """The folder of collections and batches: ``chosen``, or the user's data folder of this platform, or a Space's persistent volume.

    Raises:
        ValueError: it is inside the working directory, whose files Gradio may serve to anyone.
    """
    folder = (chosen or default_folder()).expanduser().resolve()
    if folder.is_relative_to(Path.cwd().resolve()):
        raise ValueError(
            f"{folder} is inside the working directory, which the server can serve; choose a --data folder elsewhere."
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def clean(data: Path, once: bool = False) -> None:
    """Delete collections and batches that nobody has used for ``LIFETIME``, now and every hour. An error is logged and ends neither."""
    parts = (
        Collections(data / "collections", LIFETIME).purge,
        lambda: purge_folders(data / "batches", LIFETIME),
    )
    while True:
        for purge in parts:
            try:
                purge()
            except Exception:  # whatever it is: without this thread nothing would be deleted any more
                log.exception("Cleaning up failed; it is tried again within the hour.")
        if once:
            return
        time.sleep(3600)


class Studio:
    """A running studio: the page at /, rating studies at /rate and /study. Serves from a thread of its own until ``close``.

    Args:
        data: folder of what visitors keep, and of the studies.
        port: 0 for any free one.
        access: who reaches it by which names.

    Raises:
        OSError: the port is in use.
        siamese.web.access.AccessError: ``access`` cannot be used.
        SetupError, StorageError: the studies' database cannot be used.
    """

    def __init__(
        self,
        worker: ModelWorker,
        data: Path,
        host: str,
        port: int = 0,
        access: StudioAccess = StudioAccess(),
    ) -> None:
        give_memory_back()
        self.worker = worker
        headers = studio_headers(frame_ancestors(access))  # a wrong option is reported before the long part
        self._server = WebServer(host, port, access, grace=1)
        self.address = self._server.address
        self._folder = TemporaryFolder()
        self._server.start(self._application(data), headers)
        self._note_address(self.address)
        threading.Thread(target=clean, args=(data,), name="cleaning", daemon=True).start()
        self._closing = threading.Event()
        threading.Thread(target=self._tidy, name="tidying", daemon=True).start()

    def _application(self, data: Path) -> FastAPI:
        """The page and the studies' routes. Each middleware stands before those that are added earlier."""
        studies = open_studies(data_directory(data / "studies"))
        self._note_address = studies.note_address
        with caching(self._folder.page):
            page = build_page(self.worker, data, OpenStudies(studies.store))
        page.max_threads = THREADS  # before the queue is made, which has as many places
        page.queue(api_open=False)  # a function that waits is not called past its line
        gr.set_static_paths(self._folder.page)  # its example may come back with an event, from anybody
        app = FastAPI(title="Siamese-Diffusion Studio", docs_url=None, redoc_url=None, openapi_url=None)
        app.add_middleware(
            Values, page=page
        )  # first, so that it stands behind what the studies' routes bring
        # Before the page, which takes every other path.
        turn = functools.partial(self.worker.turn, ADMINISTRATOR)
        add_study_routes(app, studies, turn=turn, home="/")
        app.mount(f"/{STATIC_PATH}", StaticFiles(directory=STATIC))
        gr.mount_gradio_app(
            app,
            page,
            "/",
            footer_links=[],
            ssr_mode=False,
            show_error=True,
            theme=theme(),
            css_paths=[*STYLE_SHEETS],
            head=page_head(),
            favicon_path=str(FAVICON),
            max_file_size=MAX_UPLOAD_BYTES,
        )
        tell_faults(cast(FastAPI, cast(Mount, app.router.routes[-1]).app))  # Gradio's application
        self._sessions = guard_page(app, page, self._folder, VisitorCookies(data))
        # Otherwise Gradio lets every origin's pages read with the visitor's cookies.
        app.add_middleware(CORSMiddleware, allow_origins=[])
        return app

    def wait(self) -> None:
        """Until the server stops."""
        self._server.wait()

    def close(self) -> None:
        """Stop serving and sampling."""
        self._server.close()
        self._closing.set()
        self.worker.close()
        self._folder.close()

    def _tidy(self) -> None:
        """Let go of what visitors have not used for an hour: files, the states of closed pages."""
        while not self._closing.wait(TIDY_SECONDS):
            for part in (self._folder, self._sessions):
                try:
                    part.tidy()
                except OSError:
                    logging.getLogger(__name__).exception("temporary files could not be removed")


def serve(
    worker: ModelWorker, data: Path | None, host: str, port: int, access: StudioAccess = StudioAccess()
) -> None:
    """Serve until interrupted, by Ctrl-C or by the signal to end. See app.py for the arguments."""
    os.umask(0o077)  # what visitors upload and keep is for this user alone
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # a host's restart leaves time for what is written at the end
    studio = Studio(worker=worker, data=data_folder(data), host=host, port=port, access=access)
    print(f"Siamese-Diffusion Studio is at {studio.address}", flush=True)
    try:
        studio.wait()
    except KeyboardInterrupt:
        print("Stopping.", flush=True)
    finally:
        studio.close()
