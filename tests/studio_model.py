"""The model that the interface's tests run on: the embedded one, or a part of it."""

from __future__ import annotations

import json
from pathlib import Path

EMBEDDED = Path(__file__).resolve().parents[1] / "assets" / "siamese-tiny"


def quick_model(scratch: Path, steps: int = 2) -> Path:
    """The embedded model in ``scratch``, which samples in ``steps`` steps if nothing else is asked for."""
    quick = _linked(scratch / "siamese-quick", "siamese.json")
    (quick / "siamese.json").write_text(
        json.dumps(json.loads((EMBEDDED / "siamese.json").read_text()) | {"steps": steps})
    )
    return quick


def model_without_segmenter(scratch: Path) -> Path:
    """The embedded model in ``scratch``, without the network that suggests masks."""
    return _linked(scratch / "no-segmenter", "segmenter")


def _linked(folder: Path, without: str) -> Path:
    """``folder`` with links to all parts of the embedded model but one."""
    folder.mkdir(parents=True)
    for part in EMBEDDED.iterdir():
        if part.name != without:
            (folder / part.name).symlink_to(part)
    return folder
