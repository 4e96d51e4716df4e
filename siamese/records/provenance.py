"""A synthetic pair, and PNG files that say that they are synthetic and how they were made.

The PNG's text fields hold everything that makes the image again: recipe and drawn mask. ``read_png`` gives both back.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from siamese import VERSION
from siamese.files.decoding import DECODER_ERRORS, MAX_SIDE
from siamese.masks.core import binarise
from siamese.records.sampling_settings import ALIASES, INTERVAL_ENDS, SETTINGS, SamplingSettings, renamed_in

NOTICE = "Research use. Images are synthetic. Not for diagnosis."
FRAME_NOTICE = (
    "Research use. Only the lesion is synthetic: the background is a real photo and may show a patient. "
    "Give the image to others only if the photo may be given to them. Not for diagnosis."
)
"""In the place of ``NOTICE`` with images whose recipe names a ``background``; see ``notice_of``."""
Background = Literal["real photo"]


class NotSyntheticError(ValueError):
    """The file is not a PNG of this studio, or its fields are damaged."""


@dataclass(frozen=True)
class Recipe:
    """Everything that makes one synthetic image again, besides its mask and a reference image."""

    prompt: str
    seed: int
    settings: SamplingSettings
    model: str
    reference_weight: float | None = None
    """w_i of Image-Diffusion; None without a reference image. The reference itself is never stored."""
    version: str = VERSION
    background: Background | None = None
    """What lies around the lesion if it is not synthetic (``siamese.frame``); the photo before is never stored. None: all is synthetic."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the settings lie beside the others."""
        return {
            "prompt": self.prompt,
            "seed": self.seed,
            **self.settings.to_dict(),
            "model": self.model,
            "reference_weight": self.reference_weight,
            "version": self.version,
            # Absent with a synthetic background, so that those files stay as they were.
            **({"background": self.background} if self.background else {}),
        }

    @classmethod
    def from_dict(cls, values: Any) -> Recipe:
        """A recipe from untrusted JSON of this or a former version.

        Raises:
            NotSyntheticError: a value is missing, of another type, out of range or not finite, or a text is not valid Unicode.
        """
        try:
            stored = _StoredRecipe.model_validate(values)
            settings = renamed_in({k: v for k, v in values.items() if k in SETTING_NAMES})
            if missing := [name for name in REQUIRED if name not in settings]:
                raise NotSyntheticError(f"the recipe is incomplete ({', '.join(missing)}).")
            return cls(settings=SamplingSettings.from_dict(settings), **stored.model_dump())
        except ValidationError as error:
            missing = [str(e["loc"][-1]) for e in error.errors() if e["type"] == "missing"]
            if missing:
                raise NotSyntheticError(f"the recipe is incomplete ({', '.join(missing)}).") from error
            raise NotSyntheticError("the recipe holds values that this studio never writes.") from error
        except NotSyntheticError:
            raise
        except (
            TypeError,
            ValueError,
        ) as error:  # the settings' own checks; their messages would quote the file
            raise NotSyntheticError("the recipe holds settings that this studio never writes.") from error


REQUIRED = ("num_inference_steps", "guidance_scale", "scheduler")
"""Settings that every version has written; the others are the paper's in older files."""
SETTING_NAMES = {*SETTINGS, *ALIASES, *INTERVAL_ENDS}


def _storable(text: str) -> str:
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("half a surrogate pair cannot be written to any file")
    return text


Text = Annotated[str, Field(max_length=999), AfterValidator(_storable)]


class _StoredRecipe(BaseModel):
    """The recipe's fields besides the settings, as JSON holds them; unknown ones are ignored."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, protected_namespaces=())

    prompt: Text
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    model: Text
    reference_weight: float | None = None
    version: Text
    background: Background | None = None


@dataclass(frozen=True)
class SyntheticPair:
    """An image, the mask that it shows, and how it was made."""

    image: np.ndarray
    """uint8 [S, S, 3]; with a real background [H, W, 3], the photo's size."""
    mask: np.ndarray
    """The mask as the model saw it: uint8 [S, S] of 0 / 255; with a real background that of ``drawn``."""
    drawn: np.ndarray
    """The mask as it was drawn: uint8 [H, W] of 0 / 255."""
    recipe: Recipe

    def fields(self) -> dict[str, str]:
        """PNG text fields by keyword; the first three are the PNG specification's own."""
        background = self.recipe.background
        kind = f"Synthetic lesion in a {background}" if background else "Synthetic image"
        return {
            "Software": f"Siamese-Diffusion Studio {self.recipe.version}",
            "Description": f"{kind}: {self.recipe.prompt}",
            "Disclaimer": notice_of([self.recipe]),
            "Synthetic": "true",
            **({"Background": background} if background else {}),
            "Recipe": json.dumps(self.recipe.to_dict()),
            "Mask": mask_base64(self.drawn),
        }


def notice_of(recipes: Iterable[Recipe]) -> str:
    """The sentence that an export of images of these recipes has to show: ``FRAME_NOTICE`` if one has a real background."""
    return FRAME_NOTICE if any(recipe.background for recipe in recipes) else NOTICE


def mask_png(mask: np.ndarray) -> bytes:
    """uint8 [H, W] of 0 / 255 as a PNG of one bit a pixel; readers give 0 and 255 again."""
    buffer = io.BytesIO()
    Image.fromarray(mask > 127).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def mask_base64(mask: np.ndarray) -> str:
    """``mask_png`` as a text."""
    return base64.b64encode(mask_png(mask)).decode("ascii")


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
            text = dict(file.text)  # pyright: ignore[reportAttributeAccessIssue]  # a PngImageFile has it
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
    if recipe.background:
        if drawn.shape != image.shape[:2]:
            raise NotSyntheticError(
                "this PNG was not made by the studio: its mask is not of the photo's size."
            )
        return SyntheticPair(image, binarise(drawn), binarise(drawn), recipe)
    if image.shape[0] != image.shape[1]:
        raise NotSyntheticError("this PNG was not made by the studio: its image is not square.")
    mask = np.array(Image.fromarray(drawn).resize(image.shape[1::-1], Image.Resampling.NEAREST))
    return SyntheticPair(image, binarise(mask), binarise(drawn), recipe)
