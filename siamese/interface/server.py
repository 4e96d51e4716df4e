"""Launching: the page, the rating studies, and what is cleaned up beside them."""
from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import signal
import socket
import threading
import time
from datetime import timedelta
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI

from siamese.collection import Collections
from siamese.interface.cache import caching
from siamese.interface.canvas import DRAWINGS
from siamese.interface.folder import TemporaryFolder
from siamese.interface.guard import guard_page
from siamese.interface.limits import LARGEST_FORM
from siamese.interface.memory import give_memory_back
from siamese.interface.page import build_page
from siamese.interface.style import CSS, FAVICON, HEAD, theme
from siamese.interface.visitor import VisitorCookies
from siamese.interface.worker import ModelWorker
from siamese.study.places import data_directory, default_folder
from siamese.study.space import trusted_proxies
from siamese.study.web.app import add_study_routes, open_store

FIRST_PORT = 7860

LIFETIME = timedelta(days=7)
"""How long what a visitor keeps stays without a visit."""
TIDY_SECONDS = 60
"""Between two looks at what visitors have not used for an hour."""


def data_folder(chosen: Path | None) -> Path:
    """Where collections and batches live: ``chosen``, or the user's data folder of this platform, or a Space's persistent volume.

    Raises:
        ValueError: it is inside the working directory, whose files Gradio may serve to anyone.
    """
    folder = (chosen or default_folder()).expanduser().resolve()
    if folder.is_relative_to(Path.cwd().resolve()):
        raise ValueError(f"{folder} is inside the working directory, which the server can serve; choose a --data folder elsewhere.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def clean(data: Path, once: bool = False) -> None:
    """Delete collections and batches that nobody has used for ``LIFETIME``, now and every hour."""
    while True:
        Collections(data / "collections", LIFETIME).purge()
        for batch in (data / "batches").glob("*"):
            newest = max((f.stat().st_mtime for f in (batch, *batch.glob("*"))), default=0)
            if time.time() - newest > LIFETIME.total_seconds():
                shutil.rmtree(batch, ignore_errors=True)  # a visitor may be deleting it at the same moment
        if once:
            return
        time.sleep(3600)


class Studio:
    """A running studio: the page at /, rating studies at /rate and /study. Serves from a thread of its own until ``close``.

    Args:
        data: folder of what visitors keep, and of the studies.
        port: a free one from 7860 on where None.

    Raises:
        OSError: the port is taken.
        PlaceError, StorageError: the studies' database cannot be used.
    """

    def __init__(self, worker: ModelWorker, data: Path, host: str, port: int | None = None) -> None:
        give_memory_back()
        self.worker = worker
        self._socket = _listen(host, port)
        self.address = f"http://{'localhost' if host in ('0.0.0.0', '::') else host}:{self._socket.getsockname()[1]}"
        self._folder = TemporaryFolder()
        with caching(self._folder.page):
            page = build_page(worker, data)
        gr.set_static_paths(self._folder.page)  # its example may come back with an event, from anybody
        page.queue()
        app = FastAPI(title="Siamese-Diffusion Studio", docs_url=None, redoc_url=None, openapi_url=None)
        studies = data_directory(data / "studies")
        add_study_routes(app, open_store(studies), studies)  # before the page, which takes every other path
        gr.mount_gradio_app(app, page, "/", footer_links=[], ssr_mode=False, show_error=True, theme=theme(), css=CSS, head=HEAD,
                            favicon_path=str(FAVICON), max_file_size=LARGEST_FORM)
        self._sessions = guard_page(app, page, self._folder, VisitorCookies(data))
        # Behind a proxy, as on a Space, the address that visitors see is the proxy's.
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", proxy_headers=True, forwarded_allow_ips=trusted_proxies(),
                                                     timeout_graceful_shutdown=1))
        logging.getLogger("uvicorn.error").addFilter(_is_no_farewell)  # the configuration above has set the logger up
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, name="server", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise OSError("the server stopped while it started; its message is above.")
            time.sleep(0.02)
        threading.Thread(target=clean, args=(data,), name="cleaning", daemon=True).start()
        self._closing = threading.Event()
        threading.Thread(target=self._tidy, name="tidying", daemon=True).start()

    def wait(self) -> None:
        """Until the server stops."""
        while self._thread.is_alive():
            time.sleep(0.5)  # not join: an interrupt inside it makes Python 3.11 take the thread for ended, and close() would not wait

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


def _listen(host: str, port: int | None) -> socket.socket:
    """A listening socket; the first free port from 7860 on where none is given."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in [port] if port is not None else range(FIRST_PORT, FIRST_PORT + 100):
        # With its protocol named: asyncio would else leave Nagle's algorithm on, and each answer waits 40 ms for an acknowledgement.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":  # elsewhere it would let two servers have one port
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, candidate))
            listening.listen(2048)
            return listening
        except OSError as error:
            listening.close()
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"port {port} is taken; choose another one with --port" if port is not None else "no port is free")


def serve(worker: ModelWorker, data: Path | None, host: str, port: int) -> None:
    """Serve until interrupted, by Ctrl-C or by the signal to end. See app.py for the arguments."""
    os.umask(0o077)  # what visitors upload and keep is for this user alone
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a host's restart leaves time for what is written at the end
    studio = Studio(worker, data_folder(data), host, port)
    print(f"Siamese-Diffusion Studio is at {studio.address}", flush=True)
    try:
        studio.wait()
    except KeyboardInterrupt:
        print("Stopping.", flush=True)
    finally:
        studio.close()
