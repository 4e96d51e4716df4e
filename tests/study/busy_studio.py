"""The studio with a synthesis always running: ``python -m tests.study.busy_studio --port P --data FOLDER``, for ``tests.tools.load``."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import tyro

from siamese.records.catalogue import find_models
from siamese.records.prompts import POLYP
from siamese.studio.backend.messages import Request
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.components.default_mask import example_mask
from siamese.studio.server import Studio
from tests.studio_model import EMBEDDED


@dataclass(frozen=True)
class Options:
    """Where to serve from."""

    data: Path
    """Folder whose ``studies`` are served."""
    port: int = 0
    """A free one if 0."""


def main(options: Options) -> None:
    """Serve, and sample one image after the other with the model's defaults until killed."""
    worker = ModelWorker(find_models(str(EMBEDDED), None))
    studio = Studio(worker, options.data, "127.0.0.1", options.port)
    worker.info()
    request = Request((example_mask(0, 512),), POLYP, (0,))
    for number in itertools.count():
        for _ in worker.sample(request):
            pass
        if number == 0:  # the address is the sign that all runs
            print(studio.address, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
