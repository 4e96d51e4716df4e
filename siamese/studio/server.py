"""Launching: the page, the rating studies, and what is cleaned up beside them."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from siamese.files.folders import purge_folders
from siamese.studio.backend.queue import ASKING_ALL, ModelWorker
from siamese.studio.backend.turns import WAITING_ALL
from siamese.studio.components.canvas import DRAWINGS
from siamese.studio.page import build_page
from siamese.studio.storage.collections import Collections
from siamese.studio.theme import FAVICON, STYLE_SHEET, page_head, theme
from siamese.studio.visitors.cache import caching
from siamese.studio.visitors.cookie import VisitorCookies
from siamese.studio.visitors.guard import guard_page
from siamese.studio.visitors.limits import MAX_FORM_BYTES
from siamese.studio.visitors.memory import give_memory_back
from siamese.studio.visitors.upload_folder import TemporaryFolder
from siamese.studio.visitors.values import Values, tell_faults
from siamese.study.storage.location import data_directory, default_folder, note_address
from siamese.study.web.app import add_study_routes, open_store
from siamese.web.access import StudioAccess
from siamese.web.guard import guard
from siamese.web.headers import studio_headers
from siamese.web.hosts import hosts_of
from siamese.web.listen import address_of, bound
from siamese.web.space import frame_ancestors, origin, trusted_proxies

FIRST_PORT = 7860
log = logging.getLogger(__name__)

LIFETIME = timedelta(days=7)
"""How long what a visitor keeps stays without a visit."""
THREADS = WAITING_ALL + ASKING_ALL + 32
"""Of Gradio's functions: for all that may wait for the model, and some that do not. The studies' routes have others."""
ADMINISTRATOR = "the studies' administrator"
"""Whose turn it is where images are sampled for a study; no visitor has this name."""
TIDY_SECONDS = 60
"""Between two looks at what visitors have not used for an hour."""


def data_folder(chosen: Path | None) -> Path:
    """Where collections and batches live: ``chosen``, or the user's data folder of this platform, or a Space's persistent volume.

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
        port: a free one from 7860 on where None.
        access: who reaches it by which names.

    Raises:
        OSError: the port is taken.
        siamese.web.access.AccessError: ``access`` cannot be used.
        PlaceError, StorageError: the studies' database cannot be used.
    """

    def __init__(
        self,
        worker: ModelWorker,
        data: Path,
        host: str,
        port: int | None = None,
        access: StudioAccess = StudioAccess(),
    ) -> None:
        give_memory_back()
        self.worker = worker
        proxies, headers = (
            trusted_proxies(access),
            studio_headers(frame_ancestors(access)),
        )  # wrong options are told before the long part
        self._socket = bound(host, range(FIRST_PORT, FIRST_PORT + 100) if port is None else [port])
        self.address = address_of(self._socket)
        self._folder = TemporaryFolder()
        with caching(self._folder.page):
            page = build_page(worker, data)
        page.max_threads = THREADS  # before the queue is made, which has as many places
        page.queue(api_open=False)  # a function that waits is not called past its line
        gr.set_static_paths(self._folder.page)  # its example may come back with an event, from anybody
        app = FastAPI(title="Siamese-Diffusion Studio", docs_url=None, redoc_url=None, openapi_url=None)
        app.add_middleware(
            Values, page=page
        )  # first, so that it stands behind what the studies' routes bring
        studies = data_directory(data / "studies")
        # Before the page, which takes every other path.
        add_study_routes(app, open_store(studies), studies, functools.partial(worker.turn, ADMINISTRATOR))
        gr.mount_gradio_app(
            app,
            page,
            "/",
            footer_links=[],
            ssr_mode=False,
            show_error=True,
            theme=theme(),
            css_paths=[STYLE_SHEET],
            head=page_head(),
            favicon_path=str(FAVICON),
            max_file_size=MAX_FORM_BYTES,
        )
        tell_faults(app.router.routes[-1].app)
        self._sessions = guard_page(app, page, self._folder, VisitorCookies(data))
        app.add_middleware(
            CORSMiddleware, allow_origins=[]
        )  # else Gradio lets every origin's pages read with the visitor's cookies
        guard(app, hosts_of(self._socket, host, (*access.allow_host, origin())), proxies, headers)
        # The proxies' headers are read by the guard.
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        logging.getLogger("uvicorn.error").addFilter(
            _is_no_farewell
        )  # the configuration above has set the logger up
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="server", daemon=True
        )
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise OSError("the server stopped while it started; its message is above.")
            time.sleep(0.02)
        note_address(studies, self.address)
        threading.Thread(target=clean, args=(data,), name="cleaning", daemon=True).start()
        self._closing = threading.Event()
        threading.Thread(target=self._tidy, name="tidying", daemon=True).start()

    def wait(self) -> None:
        """Until the server stops."""
        while self._thread.is_alive():
            time.sleep(
                0.5
            )  # not join: an interrupt inside it makes Python 3.11 take the thread for ended, and close() would not wait

    def close(self) -> None:
        """Stop serving and sampling."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self._closing.set()
        self.worker.close()
        self._folder.close()

    def _tidy(self) -> None:
        """Let go of what visitors have not used for an hour: files, drawings, the states of closed pages."""
        while not self._closing.wait(TIDY_SECONDS):
            for part in (self._folder, DRAWINGS, self._sessions):
                try:
                    part.tidy()
                except OSError:
                    logging.getLogger(__name__).exception("temporary files could not be removed")


def _is_no_farewell(record: logging.LogRecord) -> bool:
    """False of the errors that uvicorn logs where pages are still open at the end: their streams are meant to be cut off."""
    cancelled = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cancelled and "timeout graceful shutdown exceeded" not in record.getMessage()


def serve(
    worker: ModelWorker, data: Path | None, host: str, port: int, access: StudioAccess = StudioAccess()
) -> None:
    """Serve until interrupted, by Ctrl-C or by the signal to end. See app.py for the arguments."""
    os.umask(0o077)  # what visitors upload and keep is for this user alone
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # a host's restart leaves time for what is written at the end
    studio = Studio(worker, data_folder(data), host, port, access)
    print(f"Siamese-Diffusion Studio is at {studio.address}", flush=True)
    try:
        studio.wait()
    except KeyboardInterrupt:
        print("Stopping.", flush=True)
    finally:
        studio.close()
