"""Command line of the studio: options, the model's process, the server."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from siamese.records.catalogue import find_models
from siamese.studio.backend.queue import ModelWorker
from siamese.web.access import StudioAccess

EMBEDDED_MODEL = Path(__file__).resolve().parents[2] / "assets" / "siamese-tiny"


@dataclass(frozen=True)
class Options:
    """Draw a lesion mask, get synthetic images of that lesion."""

    model: str = str(EMBEDDED_MODEL)
    """Model folder, or a model of the same layout on the Hugging Face Hub (owner/name)."""
    models: Path | None = None
    """Folder of further model folders that visitors can choose."""
    data: Path | None = None
    """Folder of what visitors keep; none: the user's data folder of this platform. Never inside the working directory."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all networks."""
    port: int = 7860
    """Port to listen on."""
    access: Annotated[StudioAccess, tyro.conf.arg(name="")] = field(default_factory=StudioAccess)


def main() -> None:
    """Serve until interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it names each of its plugins
    options = tyro.cli(Options)
    try:
        worker = ModelWorker(find_models(options.model, options.models))
    except (OSError, ValueError) as error:
        raise SystemExit(f"The studio cannot start: {error}") from error
    worker.start()
    # Only now: what the page needs takes seconds to import, in which the model's process loads on another core.
    from siamese.studio.server import serve
    from siamese.study.storage.database import StorageError
    from siamese.web.settings import SetupError

    try:
        serve(worker, data=options.data, host=options.host, port=options.port, access=options.access)
    except (
        OSError,
        ValueError,
        SetupError,
        StorageError,
    ) as error:  # a taken port, an unusable folder: no traceback is needed
        raise SystemExit(f"The studio cannot start: {error}") from error
    finally:
        worker.close()
