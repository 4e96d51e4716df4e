"""``invite``, ``open`` and ``close``: what is done with a study while raters rate."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from siamese.study.commands.options import StorageOptions
from siamese.study.commands.serve import PORT
from siamese.study.storage.location import noted_address
from siamese.web.hf_space import origin
from siamese.web.hosts import is_local


@dataclass(frozen=True)
class Invite:
    """Make a personal link for each rater. A link is shown once: only its hash is stored."""

    study: tyro.conf.Positional[str]
    """The study's id."""
    labels: tyro.conf.Positional[tuple[str, ...]]
    """Whom each link is for; only administrators see it."""
    address: str | None = None
    """The server's address as raters reach it; by default the one that the studies are served at, or were last."""
    place: Annotated[StorageOptions, tyro.conf.arg(name="")] = field(default_factory=StorageOptions)

    def run(self) -> None:
        """Print a line for each: label, tab, link."""
        address = (
            self.address or origin() or noted_address(self.place.folder()) or f"http://127.0.0.1:{PORT}"
        ).rstrip("/")
        for made in self.place.store().invite(self.study, self.labels):
            print(f"{made.label}\t{address}{made.path}")
        if is_local(address):
            print(
                f"These links work in browsers on this machine only ({address}). For others give --address with the one that they use.",
                file=sys.stderr,
            )


@dataclass(frozen=True)
class Open:
    """Let raters begin, or go on after close."""

    study: tyro.conf.Positional[str]
    """The study's id."""
    accept_loss: bool = False
    """Open it although storage may not last, as on a Space without a volume."""
    accept_text: bool = False
    """Open it although text is burned into real images: each was looked at."""
    place: Annotated[StorageOptions, tyro.conf.arg(name="")] = field(default_factory=StorageOptions)

    def run(self) -> None:
        """Open it."""
        self.place.store().open(self.study, self.accept_loss, self.accept_text)
        print(f"{self.study}: open")


@dataclass(frozen=True)
class Close:
    """Take no more answers. Links keep working for withdrawal."""

    study: tyro.conf.Positional[str]
    """The study's id."""
    place: Annotated[StorageOptions, tyro.conf.arg(name="")] = field(default_factory=StorageOptions)

    def run(self) -> None:
        """Close it."""
        self.place.store().close(self.study)
        print(f"{self.study}: closed")
