"""Who reaches a server, as its operator says it on the command line. Both servers take the same options."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated

import tyro

ORIGIN = re.compile(r"https?://[A-Za-z0-9.*\[\]:-]+")


class AccessError(ValueError):
    """An option cannot be used; the message says what to write."""


@dataclass(frozen=True)
class Access:
    """Names and proxies of this server."""

    allow_host: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A name that browsers may use for this server, such as studio.example.org; can be given several times. The addresses listened on need
    none. Requests by other names are refused, since a foreign page could otherwise have its own name point here."""
    trusted_proxies: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Address (10.1.2.3) or network (10.0.0.0/8) of a proxy in front of this server; can be given several times. Whom a request is from is
    taken from X-Forwarded-For only if the request comes from one of them; otherwise from the connection."""

    def proxies(self) -> tuple[str, ...]:
        """``trusted_proxies``, checked; also as they look to a socket that listens on IPv6.

        Raises:
            AccessError: no address and no network.
        """
        found = []
        for text in self.trusted_proxies:
            try:
                network = ipaddress.ip_network(text)
            except ValueError as error:
                raise AccessError(
                    f"--trusted-proxies {text}: give an address such as 10.1.2.3 or a network such as 10.0.0.0/8 ({error})."
                ) from error
            found.append(str(network))
            if network.version == 4:
                found.append(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
        return tuple(found)


@dataclass(frozen=True)
class StudioAccess(Access):
    """Who reaches the studio, and who shows it. The studies' pages are shown by nobody but a Space's own page."""

    frame_ancestors: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Origin, such as https://intranet.example.org, whose pages may show the studio in a frame; can be given several times."""

    def frames(self) -> tuple[str, ...]:
        """``frame_ancestors``, checked: they become part of a header.

        Raises:
            AccessError: no origin.
        """
        wrong = [text for text in self.frame_ancestors if not ORIGIN.fullmatch(text)]
        if wrong:
            raise AccessError(
                f"--frame-ancestors {wrong[0]}: give an origin such as https://intranet.example.org."
            )
        return self.frame_ancestors
