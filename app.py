"""Siamese-Diffusion Studio: ``python app.py`` and open the address that it prints."""
from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import tyro

from siamese.interface.server import serve

EMBEDDED_MODEL = Path(__file__).resolve().parent / "assets" / "siamese-tiny"


@dataclass(frozen=True)
class Options:
    """Draw a lesion mask, get synthetic images of that lesion."""

    model: str = str(EMBEDDED_MODEL)
    """Model folder, or a model of the same layout on the Hugging Face Hub (owner/name)."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all networks."""
    port: int = 7860
    """Port to listen on."""
    share: bool = False
    """Also open a public address through Gradio's servers."""


def main() -> None:
    """Serve until interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    options = tyro.cli(Options)
    serve(options.model, options.host, options.port, options.share)


if __name__ == "__main__":
    main()
