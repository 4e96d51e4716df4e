"""How well lesions sit in photos: ``python -m tests.tools.frame``; prints a table and, with --out, writes the images.

Three kinds of photos. "stand-in": images that the embedded model makes of other masks, with a random lesion each. "own": validation
images of ../shared/data, the lesion in the place of the photo's own. "other": the same with another image's mask, somewhere else.

Figures, as means over the photos (and the share of photos that meet the bound):
  agreement  Dice of the mask and of what the segmentation network finds in the square, over that of a plain sample of the same mask
             and seed; at least 0.8. In "stand-in" and "other" the photo shows a lesion of its own, which is left out of both.
  seam       mean gradient in the feather's band over the mean gradient of the square; 0.8 to 1.2 is the aim
  photo      the same of the photo without the synthetic lesion, for comparison
  equal      whether all pixels outside of square and feather are the photo's
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count as count_up
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from siamese.files.decoding import LOCAL, read_image
from siamese.frame import FrameImages, sample_in_frame
from siamese.masks.core import resize_mask
from siamese.masks.crop import Crop, distance_from, opacity
from siamese.masks.reading import read_mask
from siamese.masks.segmenter import LesionSegmenter, dice
from siamese.masks.shapes import load_statistics, random_lesion
from siamese.records.prompts import LESION, POLYP
from siamese.sampling import MaskDiffusion
from tests.studio_model import EMBEDDED

DATA = EMBEDDED.parents[2] / "shared" / "data"
SETS = {"kvasir-seg": POLYP, "cvc-clinicdb": POLYP, "isic2018": LESION}


@dataclass(frozen=True, eq=False)
class Case:
    """A photo, the mask of the lesion that it gets, and the mask of the lesion that it shows."""

    photo: np.ndarray
    mask: np.ndarray
    shown: np.ndarray
    prompt: str


@dataclass(frozen=True, eq=False)
class Figures:
    """What was measured of one case."""

    agreement: float
    plain: float
    seam: float
    photo: float
    equal: bool


def stand_ins(model: MaskDiffusion, count: int) -> Iterator[Case]:
    """Photos that the model made of small lesions, each with a lesion that covers it.

    So only one lesion is in each image that the segmentation network is asked about, as in the plain sample; for lesions beside
    another one see the kind "other".
    """
    for number in range(count):
        prompt = (POLYP, LESION)[number % 2]
        lesions = (
            random_lesion(load_statistics()[prompt], 1000 * number + i, model.size) for i in count_up()
        )
        shown = next(mask for mask in lesions if (mask > 0).mean() < 0.08)
        mask = next(m for m in lesions if (m > 0).mean() < 0.4 and not ((shown > 0) & (m == 0)).any())
        yield Case(model.sample(shown, prompt, [number])[0], mask, shown, prompt)


def real_photos(folder: Path, prompt: str, count: int, own: bool) -> Iterator[Case]:
    """Validation images, every k-th so that they are ``count`` at most."""
    ids = (folder / "val.txt").read_text(encoding="utf-8").split()
    ids = ids[:: max(1, len(ids) // count)][:count]
    for i, name in enumerate(ids):
        photo = read_image(folder / "images" / f"{name}.jpg", LOCAL)
        shown = read_mask(folder / "masks" / f"{name}.png")
        other = read_mask(folder / "masks" / f"{ids[(i + 1) % len(ids)]}.png")
        yield Case(photo, shown if own else resize_mask(other, photo.shape[:2]), shown, prompt)


def measure(
    model: MaskDiffusion, segmenter: LesionSegmenter, case: Case, seed: int
) -> tuple[Figures, FrameImages]:
    """Sample one case, and plainly with the same mask and seed."""
    settings = model.checkpoint.defaults
    made = sample_in_frame(model, case.photo, [case.mask], case.prompt, [seed], settings)
    fitted = made.crop_masks[0]
    plain = model.sample_fitted([fitted], case.prompt, [seed], settings)
    crop = Crop.around(case.mask, model.size)
    ignored = (resize_mask(crop.cut_mask(case.shown), model.size) > 0) & (fitted == 0)

    def agreement(images: np.ndarray) -> float:
        found = np.where(ignored, 0, segmenter.predict(images)[0]).astype(np.uint8)
        return float(dice(found, fitted))

    image = made.images[0]
    inside = _on_photo(crop, np.ones((crop.side, crop.side)), case.photo) > 0
    square = np.ix_(inside.any(1), inside.any(0))
    share = _on_photo(crop, opacity(distance_from(crop.cut_mask(case.mask))), case.photo)
    band = ((share > 0) & (share < 1))[square]
    return Figures(
        agreement=agreement(made.crops),
        plain=agreement(plain),
        seam=_gradient_share(image[square], band),
        photo=_gradient_share(case.photo[square], band),
        equal=bool((image == case.photo)[share == 0].all()),
    ), made


def _on_photo(crop: Crop, values: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """float [H, W]: values [side, side] of the square at their place on the photo, 0 elsewhere."""
    return crop.paste(np.zeros((*photo.shape[:2], 1)), values[..., None])[..., 0]


def _gradient_share(image: np.ndarray, band: np.ndarray) -> float:
    """Mean gradient of the brightness in ``band``, over that of the whole square."""
    magnitude = np.hypot(*np.gradient(image.astype(float).mean(2)))
    return float(magnitude[band].mean() / magnitude.mean())


def report(name: str, figures: list[Figures]) -> str:
    """One line of the table."""
    agreement, plain, seam, photo = (
        np.array([getattr(f, key) for f in figures]) for key in ("agreement", "plain", "seam", "photo")
    )
    return (
        f"{name:22} n {len(figures):3}  agreement {agreement.mean():.3f} / plain {plain.mean():.3f} = "
        f"{agreement.mean() / plain.mean():.2f} (each >= 0.8: {(agreement >= 0.8 * plain).mean():.0%})  "
        f"seam {seam.mean():.2f} (0.8 to 1.2: {(abs(seam - 1) <= 0.2).mean():.0%})  "
        f"photo {photo.mean():.2f} ({(abs(photo - 1) <= 0.2).mean():.0%})  "
        f"seam / photo {(seam / photo).mean():.2f} ({(abs(seam / photo - 1) <= 0.2).mean():.0%})  "
        f"equal {all(f.equal for f in figures)}"
    )


def main() -> None:
    """Measure all kinds of photos."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20, help="photos of each kind")
    parser.add_argument("--only", help="only kinds whose name has this in it")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for the images, which must not be given away: real photos are in them",
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model = MaskDiffusion.from_pretrained(EMBEDDED, "cpu")
    segmenter = LesionSegmenter.from_pretrained(EMBEDDED / "segmenter")
    kinds: dict[str, Iterator[Case]] = {"stand-in": stand_ins(model, chosen.count)}
    for name, prompt in SETS.items():
        if (DATA / name / "val.txt").is_file():
            for own in (True, False):
                kinds[f"{name} {'own' if own else 'other'}"] = real_photos(
                    DATA / name, prompt, chosen.count, own
                )
    for kind, cases in kinds.items():
        if chosen.only and chosen.only not in kind:
            continue
        figures = []
        for i, case in enumerate(cases):
            one, made = measure(model, segmenter, case, i)
            figures.append(one)
            if chosen.out:
                chosen.out.mkdir(parents=True, exist_ok=True)
                both = np.concatenate([case.photo, made.images[0]], 1)
                Image.fromarray(both).save(chosen.out / f"{kind} {i:02d}.png")
        print(report(kind, figures), flush=True)


if __name__ == "__main__":
    main()
