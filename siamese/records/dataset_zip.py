"""Labelled synthetic pairs as one ZIP: a data set that ``train/data/pairs.py`` and the released code read after unzipping.

Layout
  images/ID.png        the synthetic image; its text fields say that it is synthetic and how it was made
  masks/ID.png         its mask at the image's size, 8-bit grey, 0 / 255
  drawn_masks/ID.png   the mask at the size at which it was drawn, 8-bit grey, 0 / 255
  prompt.json          JSON lines {"source": mask, "target": image, "prompt": text}
  manifest.jsonl       JSON lines with all settings and the files' SHA-256
  README.txt           what this is and its terms

The same pairs give the same bytes: the ZIP holds no time of writing and nothing of the machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from siamese.files.atomic import atomic_file
from siamese.files.names import MAX_NAME_BYTES, is_safe_name
from siamese.records.provenance import Recipe, SyntheticPair, notice_of, pair_png

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a ZIP can hold

_README = """Synthetic image-mask pairs, made with Siamese-Diffusion Studio
{notice}

{count} of {models}.
{patients} A pair's mask is the drawing from which the image was made; that the image shows the
lesion exactly there is not certain. mask_agreement says how far it does.

images/         PNG, RGB. The text fields of each file say that it is synthetic and hold its recipe.
masks/          the mask of each image at the image's size: 0 background, 255 lesion
drawn_masks/    the mask at the size at which it was drawn
prompt.json     one {{"source": mask, "target": image, "prompt": text}} a line, with paths relative to this folder, as the
                released code of Siamese-Diffusion reads it; --data of this project takes the folder, or the ZIP, as it is
manifest.jsonl  a line for each pair: files, model, settings, seed, version, SHA-256 of the files, and mask_agreement, the
                Dice coefficient (0..1) of the mask and of the lesion that a segmentation network finds in the image; null
                if it was not measured

Terms: the images follow the licence of the weights that made them, the file LICENSE in the model's folder. Weights that
come with the studio are for research and education, non-commercial. The studio's code is apart from them under Apache-2.0.
"""

_NO_PATIENT = "None of the images shows a patient."
_REAL_BACKGROUND = """{count} of the images are real photos with a synthetic lesion in them, marked "background" in manifest.jsonl;
they may show patients. None of the others does."""


class PairsError(ValueError):
    """The pairs cannot be written as asked; the message says what to do."""


@dataclass(frozen=True)
class LabelledPair:
    """A pair with its name in the ZIP."""

    id: str
    """File name without suffix; see ``siamese.files.names.safe_name``."""
    pair: SyntheticPair
    agreement: float | None = None
    """Dice coefficient 0..1 of the mask and the lesion found in the image; None if not measured."""
    png: bytes | None = None
    """The image's file, if one exists; if None, ``pair_png`` makes it."""


def check_name(name: str) -> None:
    """Whether ``name`` may name files.

    Raises:
        PairsError: it may not.
    """
    if not is_safe_name(name):
        raise PairsError(
            f"{str(name)[:MAX_NAME_BYTES]!r} cannot name a file; use letters, digits, _ and -, at most {MAX_NAME_BYTES} bytes of them."
        )


def check_agreement(agreement: float | None) -> float | None:
    """``agreement`` as a plain number in 0..1, or None.

    Raises:
        PairsError: not finite, or outside 0..1.
    """
    if agreement is None:
        return None
    if not (math.isfinite(agreement) and 0 <= agreement <= 1):
        raise PairsError(f"mask agreement is {agreement}; a Dice coefficient lies in 0..1.")
    return float(agreement)


def write_pairs(path: Path, pairs: Iterable[LabelledPair]) -> int:
    """Write ``pairs`` to the ZIP ``path``, one at a time, and return how many they were.

    Raises:
        PairsError: no pairs, a name that cannot be a file's or comes twice, or an agreement outside 0..1.
        OSError: the disk is full or refuses. After any error, what lay at ``path`` before is still there.
    """
    prompts, manifest, names = [], [], set()
    recipes: list[Recipe] = []
    with atomic_file(Path(path)) as file, zipfile.ZipFile(file, "w") as archive:
        for labelled in pairs:
            check_name(labelled.id)
            if labelled.id.casefold() in names:  # one file on systems on which A and a are the same
                raise PairsError(f"two pairs are named {labelled.id}; give each its own name.")
            names.add(labelled.id.casefold())
            recipes.append(labelled.pair.recipe)
            prompt, row = _add(archive, labelled)
            prompts.append(prompt)
            manifest.append(row)
        if not prompts:
            raise PairsError("there are no pairs to write; keep or make at least one first.")
        count = f"{len(prompts)} pair{'s' if len(prompts) > 1 else ''}"
        _write(archive, "prompt.json", "".join(prompts).encode())
        _write(archive, "manifest.jsonl", "".join(manifest).encode())
        real = sum(recipe.background is not None for recipe in recipes)
        text = _README.format(
            notice=notice_of(recipes),
            count=count,
            models=", ".join(sorted({recipe.model for recipe in recipes})),
            patients=_REAL_BACKGROUND.format(count=real) if real else _NO_PATIENT,
        )
        _write(archive, "README.txt", text.encode())
    return len(prompts)


def _add(archive: zipfile.ZipFile, labelled: LabelledPair) -> tuple[str, str]:
    """Write the files of one pair; its lines of prompt.json and manifest.jsonl."""
    pair, name = labelled.pair, f"{labelled.id}.png"
    files = {
        "image": (f"images/{name}", labelled.png if labelled.png is not None else pair_png(pair)),
        "mask": (f"masks/{name}", _grey_png(pair.mask)),
        "drawn_mask": (f"drawn_masks/{name}", _grey_png(pair.drawn)),
    }
    for path, data in files.values():
        _write(archive, path, data)
    row = {
        "id": labelled.id,
        **{kind: path for kind, (path, _) in files.items()},
        "synthetic": True,
        **pair.recipe.to_dict(),
        "mask_agreement": check_agreement(labelled.agreement),
        **{f"{kind}_sha256": hashlib.sha256(data).hexdigest() for kind, (_, data) in files.items()},
    }
    line = {"source": files["mask"][0], "target": files["image"][0], "prompt": pair.recipe.prompt}
    # Plain ASCII, because readers may split lines at Unicode's line separators, too.
    return json.dumps(line) + "\n", json.dumps(row, allow_nan=False) + "\n"


def _grey_png(mask: np.ndarray) -> bytes:
    """8-bit grey rather than one bit, which some readers give back as 0 and 1."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every system
    # A PNG does not get smaller by packing it again.
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
    archive.writestr(entry, data)
