"""A synthetic pair, and PNG files that say that they are synthetic and how they were made.

The PNG's text fields hold everything that makes the image again: recipe and drawn mask. ``read_png`` gives both back.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from siamese import VERSION
from siamese.files.decoding import DECODER_ERRORS, MAX_SIDE
from siamese.masks.core import binarise

if TYPE_CHECKING:
    from siamese.models.checkpoint import SamplingDefaults

NOTICE = "Research use. Images are synthetic. Not for diagnosis."
MAX_STEPS = 1000
"""The schedulers' training steps: no recipe has more."""


class NotSyntheticError(ValueError):
    """The file is no PNG of this studio, or its fields are damaged."""


@dataclass(frozen=True)
class Recipe:
    """Settings of one synthetic image."""

    prompt: str
    seed: int
    steps: int
    guidance: float
    scheduler: str
    model: str
    reference_weight: float | None = None
    """w_i of Image-Diffusion; None without a reference image. The reference itself is never stored."""
    guide: str = "prompt"
    """What guidance strengthened, see ``siamese.sampling.GuideName``."""
    rescale: float = 0.0
    """Share of guidance's contrast that was taken back, see ``siamese.sampling.guided_output``."""
    guide_above: float = 0.0
    guide_below: float = 1.0
    """Between which noise levels guidance acted, see ``siamese.sampling.denoise``."""
    version: str = VERSION

    @classmethod
    def of(
        cls,
        settings: SamplingDefaults,
        prompt: str,
        seed: int,
        model: str,
        reference_weight: float | None = None,
    ) -> Recipe:
        """The recipe of an image sampled with ``settings``."""
        return cls(
            prompt,
            seed,
            settings.steps,
            float(settings.guidance),
            settings.scheduler,
            model,
            reference_weight,
            settings.guide,
            settings.rescale,
            settings.guide_above,
            settings.guide_below,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """A recipe from untrusted JSON.

        Raises:
            NotSyntheticError: a value is missing, of another type, out of range or not finite, or a text is no valid Unicode.
        """
        try:
            weight = values.get("reference_weight")
            optional = [
                values.get("rescale", 0.0),
                values.get("guide_above", 0.0),
                values.get("guide_below", 1.0),
            ]  # absent in older files
            numbers = [values["guidance"], *optional] + ([] if weight is None else [weight])
            whole = [values["seed"], values["steps"]]
            guide = values.get("guide", "prompt")  # absent in files of version 0.1
            texts = [guide, *(values[k] for k in ("prompt", "scheduler", "model", "version"))]
            right = (
                all(type(v) is int and 0 <= v < 2**63 for v in whole)
                and all(isinstance(v, str) and len(v) < 1000 for v in texts)
                and 1 <= values["steps"] <= MAX_STEPS
                and not any(
                    "\ud800" <= c <= "\udfff" for v in texts for c in v
                )  # half a surrogate pair: cannot be written to any file
                and all(type(v) in (int, float) and math.isfinite(v) for v in numbers)
            )
        except (
            AttributeError,
            KeyError,
            TypeError,
            OverflowError,
        ) as error:  # the last: an integer beyond every float
            raise NotSyntheticError(f"the recipe is incomplete ({error!r}).") from error
        if not right:
            raise NotSyntheticError("the recipe holds values that this studio never writes.")
        return cls(
            values["prompt"],
            values["seed"],
            values["steps"],
            float(values["guidance"]),
            values["scheduler"],
            values["model"],
            None if weight is None else float(weight),
            guide,
            *map(float, optional),
            values["version"],
        )


@dataclass(frozen=True)
class SyntheticPair:
    """An image, the mask that it shows, and how it was made."""

    image: np.ndarray
    """uint8 [S, S, 3]."""
    mask: np.ndarray
    """The mask as the model saw it: uint8 [S, S] of 0 / 255."""
    drawn: np.ndarray
    """The mask as it was drawn: uint8 [H, W] of 0 / 255."""
    recipe: Recipe

    def fields(self) -> dict[str, str]:
        """PNG text fields by keyword; the first three are the PNG specification's own."""
        return {
            "Software": f"Siamese-Diffusion Studio {self.recipe.version}",
            "Description": f"Synthetic image: {self.recipe.prompt}",
            "Disclaimer": NOTICE,
            "Synthetic": "true",
            "Recipe": json.dumps(self.recipe.to_dict()),
            "Mask": base64.b64encode(mask_png(self.drawn)).decode("ascii"),
        }


def mask_png(mask: np.ndarray) -> bytes:
    """uint8 [H, W] of 0 / 255 as a PNG of one bit a pixel; readers give 0 and 255 again."""
    buffer = io.BytesIO()
    Image.fromarray(mask > 127).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def pair_png(pair: SyntheticPair) -> bytes:
    """The image as a PNG with the pair's fields."""
    text = PngInfo()
    for keyword, value in pair.fields().items():
        text.add_itxt(keyword, value)
    buffer = io.BytesIO()
    Image.fromarray(pair.image).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def read_png(data: bytes) -> SyntheticPair:
    """The pair that ``pair_png`` wrote.

    Raises:
        NotSyntheticError: not such a file. Nothing in it is trusted: sizes and types are checked.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as file:
            if max(file.size) > MAX_SIDE or file.mode != "RGB":
                raise NotSyntheticError("this PNG was not made by the studio.")
            image = np.array(file)  # reads the fields behind the pixels, too
            text = dict(file.text)
        if text.get("Synthetic") != "true" or "Recipe" not in text or "Mask" not in text:
            raise NotSyntheticError(
                "this PNG has no recipe: it was not made by the studio, or another program has rewritten it."
            )
        recipe = Recipe.from_dict(json.loads(text["Recipe"]))
        with Image.open(io.BytesIO(base64.b64decode(text["Mask"], validate=True)), formats=["PNG"]) as file:
            if max(file.size) > MAX_SIDE or file.mode != "1":
                raise NotSyntheticError("the mask in this PNG was not made by the studio.")
            drawn = np.array(file.convert("L"))
    except NotSyntheticError:
        raise
    except DECODER_ERRORS as error:
        raise NotSyntheticError("this PNG cannot be read: it is damaged, or its fields are.") from error
    if image.shape[0] != image.shape[1]:
        raise NotSyntheticError("this PNG was not made by the studio: its image is not square.")
    mask = np.array(Image.fromarray(drawn).resize(image.shape[1::-1], Image.Resampling.NEAREST))
    return SyntheticPair(image, binarise(mask), binarise(drawn), recipe)
