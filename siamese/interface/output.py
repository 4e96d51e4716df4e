"""Image files that say what they are: PNG with the provenance of a synthetic image."""
from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from siamese.interface import VERSION
from siamese.interface.worker import Generated

NOTICE = "Research use. Images are synthetic. Not for diagnosis."


def provenance(generated: Generated) -> dict[str, str]:
    """PNG text fields by keyword; the first three are the PNG specification's own."""
    return {
        "Software": f"Siamese-Diffusion Studio {VERSION}",
        "Description": f"Synthetic image: {generated.prompt}",
        "Disclaimer": NOTICE,
        "Synthetic": "true",
        "Prompt": generated.prompt,
        "Seed": str(generated.seed),
        "Steps": str(generated.steps),
        "Guidance": f"{generated.guidance:g}",
        "Scheduler": generated.scheduler,
        "Model": generated.model,
        "Version": VERSION,
    }


def servable(pixels: np.ndarray, text: dict[str, str] | None = None) -> Image.Image:
    """``pixels`` uint8 [H, W, 3 or 4] for Gradio to serve as a PNG with ``text``.

    Gradio names a served file by its content and writes it anew each time; whoever is still loading the same content
    would get half a file. A text field of its own gives each its own file.
    """
    image = Image.fromarray(pixels)
    image.info.update((text or {}) | {"File": uuid.uuid4().hex})
    return image


def write_png(generated: Generated, folder: Path) -> Path:
    """Write the image, without outline, to ``folder`` under a name with its seed, and return the path."""
    text = PngInfo()
    for keyword, value in provenance(generated).items():
        text.add_itxt(keyword, value)
    path = folder / f"synthetic-seed-{generated.seed}.png"
    Image.fromarray(generated.image).save(path, pnginfo=text)
    return path
