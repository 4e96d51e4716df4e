"""Threads of their own for raters and for administrators: whatever holds the others up, an answer is stored.

FastAPI runs all functions that are not ``async`` in the same 40 threads, and so would the page beside the studies: 40 visitors who
wait for the model would stop every rater.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from fastapi.routing import APIRoute

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """At most ``count`` threads at once for the functions that are run ``beside`` the event loop.

    Args:
        name: of no other.
        count: the database has more connections than all these threads together; see ``siamese.study.storage.database``.
    """

    def __init__(self, name: str, count: int) -> None:
        self._count = count
        self._limiter: RunVar[CapacityLimiter] = RunVar(
            f"siamese {name}"
        )  # one an event loop: each test client has its own

    def beside(self, function: Callable[P, R]) -> Callable[P, Awaitable[R]]:
        """``function``, awaitable and with the same signature, for a route or a dependency."""

        @functools.wraps(function)
        async def run(*args: P.args, **kwargs: P.kwargs) -> R:
            return await to_thread.run_sync(
                functools.partial(function, *args, **kwargs), limiter=self.limiter
            )

        return run

    @property
    def limiter(self) -> CapacityLimiter:
        """The running event loop's."""
        try:
            return self._limiter.get()
        except LookupError:
            self._limiter.set(CapacityLimiter(self._count))
            return self._limiter.get()

    @property
    def route(self) -> type[APIRoute]:
        """Class of routes whose functions run in these threads; for ``APIRouter``. Their dependencies need ``beside``."""
        threads = self

        class Route(APIRoute):
            """See ``Threads.route``."""

            def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
                # A router that is put on an application makes its routes again, of functions that are awaitable by then.
                super().__init__(
                    path,
                    endpoint if inspect.iscoroutinefunction(endpoint) else threads.beside(endpoint),
                    **options,
                )

        return Route


RATERS, ADMINISTRATORS = Threads("raters", 32), Threads("administrators", 8)
