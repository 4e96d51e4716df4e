"""Phantoms with burned-in text as endoscopes and scanners write it: the same for the same seed."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tests.phantoms import phantom

SIZES = (256, 384, 512, 720, 1024)
"""Longer sides in pixels; an overlay's text is 10 to 28 pixels high, whatever the image's size."""
MIN_HEIGHT, MAX_HEIGHT = 10, 28
COLOURS = ((255, 255, 255), (255, 235, 60), (90, 255, 90))
NAMES = (
    "Miller, Anna",
    "J. KOWALSKI",
    "Garcia Lopez",
    "Chen Wei",
    "O'BRIEN PATRICK",
    "Schmidt, Hans-Peter",
    "Nguyen T.",
    "Rossi Maria",
)


def lines(rng: np.random.Generator) -> list[str]:
    """One to four lines: a date, a name, an identity, an age, as machines write them."""
    day, month, year = rng.integers(1, 29), rng.integers(1, 13), rng.integers(1938, 2026)
    hour, minute, second, number = (
        rng.integers(0, 24),
        rng.integers(0, 60),
        rng.integers(0, 60),
        rng.integers(10_000, 10_000_000),
    )
    clock = f"{hour:02d}:{minute:02d}:{second:02d}"
    date = (
        f"{day:02d}/{month:02d}/{year}",
        f"{year}-{month:02d}-{day:02d}",
        f"{day:02d}.{month:02d}.{year} {clock}",
    )[rng.integers(3)]
    identity = (f"ID {number}", f"MRN: {number}", f"Pat. No. {number}", f"#{number}")[rng.integers(4)]
    name = NAMES[rng.integers(len(NAMES))]
    age = (
        f"Sex: F  Age: {rng.integers(18, 95)}",
        f"D.O.B. {day:02d}/{month:02d}/{year}",
        "Name:",
        "Dr. House / Ward 7",
    )[rng.integers(4)]
    wanted = [date, identity, name, age]
    order = rng.permutation(4)[: rng.integers(1, 5)]
    found = [wanted[i] for i in order]
    return [f"Name: {name}" if line == "Name:" else line for line in found]


def overlay(seed: int) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """A phantom with text in a corner, and in every third case with a black panel that the text is on. Half of the images were JPEG files once.

    Returns:
        Image uint8 [H, W, 3], longer side 256 to 1024; and left, top, right and bottom of the text as fractions 0..1 of the image.
    """
    rng = np.random.default_rng(seed)
    longer = SIZES[rng.integers(len(SIZES))]
    height = int(longer * rng.uniform(0.7, 1))
    image = Image.fromarray(phantom(seed, height, longer)[0])
    panel = int(longer * rng.uniform(0.25, 0.35)) if rng.random() < 1 / 3 else 0
    draw = ImageDraw.Draw(image)
    if panel:
        draw.rectangle((0, 0, panel, height), fill=(0, 0, 0))
    # A long line of large letters does not fit on a small image; machines write smaller there.
    text, colour = lines(rng), COLOURS[rng.integers(len(COLOURS))]
    size = int(rng.integers(MIN_HEIGHT, MAX_HEIGHT + 1))
    while True:
        font = ImageFont.load_default(size)
        box = draw.multiline_textbbox((0, 0), "\n".join(text), font=font)
        if size == MIN_HEIGHT or box[2] + 8 <= (panel or longer):
            break
        size -= 1
    right, bottom = rng.random() < 0.5 and not panel, rng.random() < 0.5
    margin = int(rng.integers(2, 9))
    x = longer - margin - box[2] if right else margin
    y = height - margin - box[3] if bottom else margin
    draw.multiline_text((x, y), "\n".join(text), fill=colour, font=font)
    if rng.random() < 0.5:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(rng.integers(70, 96)))
        image = Image.open(file)
    place = (x / longer, y / height, min(1, (x + box[2]) / longer), min(1, (y + box[3]) / height))
    return np.array(image.convert("RGB")), place
