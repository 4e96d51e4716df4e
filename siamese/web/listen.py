"""The socket that a server listens on, and the address that a browser finds it at."""

from __future__ import annotations

import ipaddress
import os
import socket

BACKLOG = 2048


class ListenError(OSError):
    """The address cannot be listened on; the message says what to do."""


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket at ``port`` of ``host``, to which nobody can connect yet.

    Args:
        host: name or address of this machine, IPv6 with or without brackets; 0.0.0.0 or :: for all networks.
        port: 0 for any free one.

    Raises:
        ListenError: this machine has no such address, or the port is in use.
    """
    host = host.removeprefix("[").removesuffix("]")
    try:
        # If a name has addresses of both kinds, the older one, which every browser reaches.
        found = sorted(
            socket.getaddrinfo(host, None, type=socket.SOCK_STREAM),
            key=lambda entry: entry[0] != socket.AF_INET,
        )
    except OSError as error:
        raise ListenError(
            f"--host {host} cannot be used: there is no such address ({error.strerror})."
        ) from error
    family, _, _, _, place = found[0]
    # With its protocol named: asyncio would otherwise leave Nagle's algorithm on, and each answer would wait 40 ms for an
    # acknowledgement.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two servers have one port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # all networks include those of the older addresses
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not on_all(host)))
        made.bind((place[0], port, *place[2:]))
    except (OSError, OverflowError) as error:  # a port beyond 65535 is an OverflowError
        made.close()
        raise unusable(host, port, error) from error
    return made


def listen(bound: socket.socket) -> None:
    """Let browsers connect to a socket of ``bind``.

    Raises:
        ListenError: another program has begun to listen on the port in between.
    """
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise unusable(host, port, error) from error


def unusable(host: str, port: int, error: Exception) -> ListenError:
    """The message for a port that cannot be used."""
    reason = getattr(error, "strerror", None) or str(error)
    return ListenError(f"port {port} on {host} cannot be used ({reason}); choose another with --port.")


def on_all(host: str) -> bool:
    """Whether ``host`` means all networks."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def address_of(listener: socket.socket) -> str:
    """The address at which a browser on this machine finds what ``listener`` serves."""
    host, port = listener.getsockname()[:2]
    host = "localhost" if on_all(host) else f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}"
