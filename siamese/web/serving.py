"""The launcher of both servers: the socket, what stands before every request, uvicorn, and the end."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping

import uvicorn
from fastapi import FastAPI

from siamese.web.access import Access
from siamese.web.guard import guard
from siamese.web.hf_space import origin, trusted_proxies
from siamese.web.hosts import hosts_of
from siamese.web.listen import address_of, bind, listen

END_SECONDS = 20
"""How long a server that is stopped may take to end, beside what open requests are given."""
log = logging.getLogger(__name__)


class WebServer:
    """Serves one application, with ``run`` in this thread or with ``start`` in one of its own.

    The socket is bound on construction, so that a port in use is reported before the application is made, which can take a minute.
    Nobody can connect before ``run`` or ``start``.

    Args:
        host: address to listen on, as the operator gave it; 0.0.0.0 for all networks.
        port: 0 for any free one.
        access: who reaches the server by which names and proxies.
        grace: seconds that open requests have at the end; None for as long as they need.

    Raises:
        AccessError: ``access`` cannot be used.
        ListenError: the address or port cannot be used.
    """

    def __init__(self, host: str, port: int, access: Access, grace: int | None = None) -> None:
        self._proxies = trusted_proxies(access)
        self._names = access.allow_host
        self._host, self._grace = host, grace
        self._socket = bind(host, port)
        self.address = address_of(self._socket)
        """The address at which a browser on this machine finds it."""
        self._uvicorn: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def run(self, app: FastAPI, headers: Mapping[str, str], message: str) -> None:
        """Serve until interrupted. ``message`` is printed once a browser can connect. See ``start`` for the other arguments."""
        server = self._prepared(app, headers)
        print(message, flush=True)
        try:
            server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def start(self, app: FastAPI, headers: Mapping[str, str]) -> None:
        """Serve from a thread until ``close``; returns once the application has started.

        Args:
            app: with all its routes and other middlewares.
            headers: of every response that does not set them itself.

        Raises:
            OSError: the application did not start.
        """
        server = self._prepared(app, headers)
        self._thread = threading.Thread(
            target=server.run, kwargs={"sockets": [self._socket]}, name="server", daemon=True
        )
        self._thread.start()
        while not server.started:
            if not self._thread.is_alive():
                raise OSError("the server stopped while it started; its message is above.")
            time.sleep(0.02)

    def wait(self) -> None:
        """Until the server stops."""
        while self._thread is not None and self._thread.is_alive():
            # Not join: an interrupt inside it makes Python 3.11 take the thread for ended, and close() would not wait.
            time.sleep(0.5)

    def close(self) -> None:
        """Stop serving. ``run`` returns soon after; a server that was started with ``start`` has ended.

        If ``grace`` is given, a server that has not ended ``END_SECONDS`` after it is left to the end of the process, with a warning
        that names what it still does: a request to stop must not wait for ever.
        """
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True
        if self._thread is not None:
            self._thread.join(None if self._grace is None else self._grace + END_SECONDS)
            if self._thread.is_alive():
                log.warning("The server at %s does not end; it still does: %s", self.address, self._doing())
        if self._uvicorn is None or self._thread is not None:  # otherwise ``run`` closes it
            self._socket.close()

    def _doing(self) -> str:
        """The coroutines that the server's loop has not ended."""
        loops = {server.get_loop() for server in self._uvicorn.servers} if self._uvicorn else set()
        tasks = [task for loop in loops for task in asyncio.all_tasks(loop)]
        return ", ".join(sorted(f"{task.get_coro()!r}" for task in tasks)) or "nothing that is known"

    def _prepared(self, app: FastAPI, headers: Mapping[str, str]) -> uvicorn.Server:
        """uvicorn for the guarded application, on a socket that takes connections."""
        guard(app, hosts_of(self._socket, self._host, (*self._names, origin())), self._proxies, headers)
        listen(self._socket)
        # Requests are not logged: the addresses of some hold raters' links. The proxies' headers are read by the guard.
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=self._grace,
            )
        )
        # The configuration above has set the logger up.
        logging.getLogger("uvicorn.error").addFilter(_is_worth_logging)
        return self._uvicorn


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """False for the errors that uvicorn logs if pages are still open at the end: their streams are cut off on purpose."""
    cancelled = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cancelled and "timeout graceful shutdown exceeded" not in record.getMessage()
