"""What stands before every request of a server, from the outermost on: proxies, headers, errors, hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import FastAPI

from siamese.web.errors import LastResort
from siamese.web.headers import AddedHeaders
from siamese.web.hosts import HostCheck, Hosts
from siamese.web.proxies import Forwarded


def guard(app: FastAPI, hosts: Hosts, proxies: Sequence[str], headers: Mapping[str, str]) -> None:
    """Put it before ``app``, of which all routes and other middlewares are there already.

    Args:
        hosts: what the server may be called.
        proxies: whose word counts for whom a request is from.
        headers: what every response has that says nothing else itself.
    """
    app.add_middleware(HostCheck, hosts=hosts)
    app.add_middleware(LastResort)
    app.add_middleware(AddedHeaders, headers=headers)
    app.add_middleware(Forwarded, proxies=proxies)
