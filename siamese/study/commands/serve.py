"""``serve`` and ``demo``: serve the studies, the second with a small study to try."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from siamese.study.commands.create import print_note, sampling_report
from siamese.study.commands.options import StorageOptions
from siamese.study.creation.demo import Demonstration, make_demo
from siamese.study.storage.location import note_address
from siamese.study.web.app import study_app
from siamese.study.web.security import HEADERS
from siamese.web.access import Access
from siamese.web.serving import WebServer

PORT = 8600
"""Default port of ``serve``."""
EMBEDDED_MODEL = Path(__file__).resolve().parents[3] / "assets" / "siamese-tiny"
"""The repository's model, which ``demo`` samples by default."""


@dataclass(frozen=True)
class Serve:
    """Serve the studies alone, without the studio."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all networks."""
    port: int = PORT
    """Port to listen on."""
    access: Annotated[Access, tyro.conf.arg(name="")] = field(default_factory=Access)
    place: Annotated[StorageOptions, tyro.conf.arg(name="")] = field(default_factory=StorageOptions)

    def run(self) -> None:
        """Serve until interrupted."""
        server = WebServer(self.host, self.port, self.access)
        serve_studies(server, self.place, f"Rating studies are at {server.address}/study/admin")


def serve_studies(server: WebServer, place: StorageOptions, message: str) -> None:
    """Serve until interrupted; ``message`` is printed once a browser can connect."""
    app = study_app(place.data, place.database)
    note_address(place.folder(), server.address)
    server.run(app, HEADERS, message)


@dataclass(frozen=True)
class Demo:
    """Make a small study to try, print a link to rate it, and serve it until interrupted.

    With --real, real images against the model's; without, two settings of the model side by side.
    """

    real: Path | None = None
    """Folder of real images, or a folder with images/ and masks/ as for training."""
    masks: Path | None = None
    """Folder of the real images' masks, named as the images. Random lesions are sampled if the images have none."""
    model: str = str(EMBEDDED_MODEL)
    """Model folder, or a model of the same layout on the Hugging Face Hub (owner/name)."""
    organ: Literal["polyp", "lesion"] = "polyp"
    """What the images show."""
    groups: int = 6
    """Masks."""
    accept_text: bool = False
    """Show the real images although text is burned into some, which may name patients and tells what is real."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all networks."""
    port: int = 0
    """Port to listen on; 0 for a free one."""
    access: Annotated[Access, tyro.conf.arg(name="")] = field(default_factory=Access)
    place: Annotated[StorageOptions, tyro.conf.arg(name="")] = field(default_factory=StorageOptions)

    def run(self) -> None:
        """Make it, print the link, serve."""
        server = WebServer(
            self.host, self.port, self.access
        )  # a port in use is reported before the long part
        store = self.place.store()
        if warning := store.warning():
            print(warning, flush=True)
        print("Loading the model ...", flush=True)
        wanted = Demonstration(
            model=self.model,
            organ=self.organ,
            groups=self.groups,
            real=self.real,
            masks=self.masks,
            accept_text=self.accept_text,
        )
        study = make_demo(store, wanted, sampling_report(), print_note).config
        (made,) = store.invite(study.id, ["demonstration"])
        message = (
            f"{study.id}: {study.rated} items. Rate at\n\n    {server.address}{made.path}\n\n"
            f"Studies and results: {server.address}/study/admin"
        )
        serve_studies(server, self.place, message)
