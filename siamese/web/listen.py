"""The socket that a server listens on, and the address that a browser finds it at."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable

BACKLOG = 2048


class ListenError(OSError):
    """The address cannot be listened on; the message says what to do."""


def bound(host: str, ports: Iterable[int], listening: bool = True) -> socket.socket:
    """A TCP socket that has the first of ``ports`` that is free (0: any).

    Args:
        host: name or address of this machine, IPv6 with or without brackets; 0.0.0.0 or :: for all networks.
        listening: whether browsers can connect at once; where not, ``listen(BACKLOG)`` lets them.

    Raises:
        ListenError: there is no such address here, or no port is free.
    """
    host, ports = host.removeprefix("[").removesuffix("]"), list(ports)
    try:
        # Of a name that has addresses of both kinds the older one, which every browser reaches.
        places = sorted(
            socket.getaddrinfo(host, None, type=socket.SOCK_STREAM),
            key=lambda found: found[0] != socket.AF_INET,
        )
    except OSError as error:
        raise ListenError(
            f"--host {host} cannot be used: there is no such address ({error.strerror})."
        ) from error
    family, _, _, _, place = places[0]
    for port in ports:
        # With its protocol named: asyncio would else leave Nagle's algorithm on, and each answer waits 40 ms for an acknowledgement.
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":  # elsewhere it would let two servers have one port
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # all networks are those of the older addresses, too
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not on_all(host)))
            made.bind((place[0], port, *place[2:]))
            if listening:  # only then nobody else gets the port
                made.listen(BACKLOG)
            return made
        except (OSError, OverflowError) as error:  # a port beyond 65535 is an OverflowError
            made.close()
            if not (isinstance(error, OSError) and error.errno == errno.EADDRINUSE and port != ports[-1]):
                reason = getattr(error, "strerror", None) or str(error)
                raise ListenError(
                    f"port {port} on {host} cannot be used ({reason}); choose another with --port."
                ) from error
    raise ValueError("no port is given.")


def on_all(host: str) -> bool:
    """Whether ``host`` means all networks."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def address_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds what ``listener`` serves."""
    host, port = listener.getsockname()[:2]
    host = "localhost" if on_all(host) else f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}"
