"""PNG files of synthetic pairs: the round trip, what other readers see, and hostile files."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from siamese import VERSION
from siamese.records.provenance import (
    MAX_SIDE,
    NOTICE,
    NotSyntheticError,
    Recipe,
    SyntheticPair,
    mask_png,
    pair_png,
    read_png,
)
from siamese.records.sampling_settings import MAX_INFERENCE_STEPS, SamplingSettings
from tests.factories import RECIPE, make_pair
from tests.phantoms import phantom

PAIR = make_pair()
PNG = pair_png(PAIR)


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """(type, content) of a PNG's chunks, by the specification."""
    position, found = 8, []
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        found.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def join(parts: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of chunks, with correct lengths and checksums."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts
    )


def rewritten(image: np.ndarray | None = None, **fields: str | None) -> bytes:
    """The pair's PNG with other fields (None: left out) and, if given, another image."""
    text = PngInfo()
    for keyword, value in (PAIR.fields() | fields).items():
        if value is not None:
            text.add_itxt(keyword, value)
    buffer = io.BytesIO()
    Image.fromarray(PAIR.image if image is None else image).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def with_recipe(**values: object) -> bytes:
    return rewritten(Recipe=json.dumps(RECIPE.to_dict() | values))


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        dataclasses.replace(
            RECIPE, reference_weight=None, seed=0, settings=SamplingSettings(num_inference_steps=1)
        ),
        dataclasses.replace(
            RECIPE,
            settings=SamplingSettings(12, 5, "dpm++", "mask", 0.7, (0.3, 0.8)),
            prompt='Läsion "x" <b>\n\u75c5\u5909 \U0001f600',
            version="9.9",
        ),
        dataclasses.replace(
            RECIPE,
            settings=SamplingSettings(num_inference_steps=MAX_INFERENCE_STEPS),
            seed=2**63 - 1,
            reference_weight=0.0,
        ),
    ],
)
def test_round_trip(recipe):
    pair = make_pair(recipe)
    again = read_png(pair_png(pair))
    assert again.recipe == recipe
    for name in ("image", "mask", "drawn"):
        value = getattr(again, name)
        assert value.dtype == np.uint8
        np.testing.assert_array_equal(value, getattr(pair, name))
    assert pair_png(again) == pair_png(pair)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (37, 53), (300, 64)])
def test_round_trip_of_any_drawn_size(height, width):
    drawn = np.where(np.random.default_rng(0).random((height, width)) > 0.5, 255, 0).astype(np.uint8)
    pair = dataclasses.replace(PAIR, drawn=drawn)
    again = read_png(pair_png(pair))
    np.testing.assert_array_equal(again.drawn, drawn)
    assert again.mask.shape == PAIR.image.shape[:2]


@pytest.mark.parametrize("background", ["none", 1, True, ["real photo"]])
def test_another_background_is_refused(background):
    with pytest.raises(NotSyntheticError, match="never writes"):
        read_png(with_recipe(background=background))


def test_integers_in_place_of_the_recipes_floats():
    recipe = read_png(with_recipe(guidance_scale=7, reference_weight=1)).recipe
    assert recipe.settings.guidance_scale == 7.0
    assert isinstance(recipe.settings.guidance_scale, float)
    assert isinstance(recipe.reference_weight, float)


OLD_RECIPE = {
    "prompt": "an image of polyp",
    "seed": 3,
    "steps": 12,
    "guidance": 5,
    "scheduler": "dpm++",
    "model": "kvasir",
    "reference_weight": None,
    "guide": "mask",
    "rescale": 0.7,
    "guide_above": 0.3,
    "guide_below": 0.8,
    "version": "0.2.0",
}


def test_recipes_of_former_versions_are_read():
    """0.2 had all settings under other names, 0.1 had three of them."""
    settings = SamplingSettings(12, 5.0, "dpm++", "mask", 0.7, (0.3, 0.8))
    whole = read_png(rewritten(Recipe=json.dumps(OLD_RECIPE))).recipe
    assert whole == Recipe("an image of polyp", 3, settings, "kvasir", version="0.2.0")
    first = {
        k: v for k, v in OLD_RECIPE.items() if k not in ("guide", "rescale", "guide_above", "guide_below")
    }
    assert Recipe.from_dict(first).settings == SamplingSettings(12, 5.0, "dpm++")


def test_any_reader_sees_that_it_is_synthetic():
    with Image.open(io.BytesIO(PNG)) as file:
        np.testing.assert_array_equal(np.array(file), PAIR.image)
        text = file.text
    assert text["Synthetic"] == "true"
    assert text["Disclaimer"] == NOTICE
    assert VERSION in text["Software"]
    assert text["Description"] == "Synthetic image: an image of polyp"
    assert json.loads(text["Recipe"]) == RECIPE.to_dict()
    stored = Image.open(io.BytesIO(base64.b64decode(text["Mask"])))
    assert stored.mode == "1"
    assert "Synthetic\0" in PNG.decode("latin-1")  # not compressed: plain in the file


def test_mask_png_is_small_and_exact():
    mask = phantom(4, 512, 512)[1]
    data = mask_png(mask)
    assert len(data) < 4000
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(data)).convert("L")), mask)


def test_the_callers_arrays_are_left_alone_and_the_results_are_writable():
    before = PAIR.drawn.copy()
    again = read_png(pair_png(PAIR))
    again.image[:] = again.mask[:] = again.drawn[:] = 0
    np.testing.assert_array_equal(PAIR.drawn, before)


def test_refuses_other_images():
    for data in (b"", b"no image", b"\x89PNG\r\n\x1a\n", PNG[8:]):
        with pytest.raises(NotSyntheticError):
            read_png(data)
    for kind in ("JPEG", "GIF", "TIFF", "BMP", "WEBP"):
        buffer = io.BytesIO()
        Image.fromarray(PAIR.image).save(buffer, kind)
        with pytest.raises(NotSyntheticError):
            read_png(buffer.getvalue())
    plain = io.BytesIO()
    Image.fromarray(PAIR.image).save(plain, "PNG")
    with pytest.raises(NotSyntheticError, match="no recipe"):
        read_png(plain.getvalue())


@pytest.mark.parametrize(
    ("field", "value"), [("Synthetic", None), ("Synthetic", "false"), ("Recipe", None), ("Mask", None)]
)
def test_refuses_missing_fields(field, value):
    with pytest.raises(NotSyntheticError, match="no recipe"):
        read_png(rewritten(**{field: value}))


@pytest.mark.parametrize(
    "image",
    [
        phantom(0, 32, 48)[0],
        phantom(0, 32, 32)[0][..., 0],
        np.zeros((32, 32, 4), np.uint8),
        np.zeros((8, MAX_SIDE + 1, 3), np.uint8),
    ],
)
def test_refuses_images_that_the_studio_never_makes(image):
    with pytest.raises(NotSyntheticError, match="not made by the studio"):
        read_png(rewritten(image))


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": 3},
        {"prompt": None},
        {"prompt": "x" * 1000},
        {"prompt": "\ud800"},
        {"scheduler": ["ddim"]},
        {"model": {}},
        {"version": 1},
        {"seed": -1},
        {"seed": 2**63},
        {"seed": 1.5},
        {"seed": True},
        {"seed": "1"},
        {"seed": None},
        {"num_inference_steps": 0},
        {"num_inference_steps": MAX_INFERENCE_STEPS + 1},
        {"num_inference_steps": 20.0},
        {"num_inference_steps": True},
        {"guidance_scale": "7.5"},
        {"guidance_scale": None},
        {"guidance_scale": float("nan")},
        {"guidance_scale": float("inf")},
        {"guidance_scale": 10**400},
        {"guidance_scale": False},
        {"guidance_scale": 0.5},
        {"guidance_mode": "image"},
        {"guidance_rescale": 1.5},
        {"guidance_interval": [0.3]},
        {"guidance_interval": [0.8, 0.3]},
        {"steps": 20},
        {"reference_weight": "1"},
        {"reference_weight": float("-inf")},
        {"reference_weight": 10**400},
        {"reference_weight": []},
    ],
)
def test_refuses_recipes_that_the_studio_never_writes(values):
    with pytest.raises(NotSyntheticError, match="recipe"):
        read_png(with_recipe(**values))
    with pytest.raises(NotSyntheticError, match="recipe"):
        Recipe.from_dict(RECIPE.to_dict() | values)


@pytest.mark.parametrize(
    "name", ["prompt", "seed", "num_inference_steps", "guidance_scale", "scheduler", "model", "version"]
)
def test_refuses_recipes_without_a_value(name):
    values = RECIPE.to_dict()
    del values[name]
    with pytest.raises(NotSyntheticError, match=f"incomplete.*{name}"):
        read_png(rewritten(Recipe=json.dumps(values)))


def test_a_recipe_without_reference_weight_has_none():
    values = RECIPE.to_dict()
    del values["reference_weight"]
    assert read_png(
        rewritten(Recipe=json.dumps(values | {"unknown": "ignored"}))
    ).recipe == dataclasses.replace(RECIPE, reference_weight=None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"x"',
        "7",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"seed": ' + "9" * 5000 + "}",
        "{\0}",
    ],
    ids=lambda t: t[:8].encode().hex(),
)
def test_refuses_recipes_that_are_no_object(text):
    with pytest.raises(NotSyntheticError):
        read_png(rewritten(Recipe=text))


def encoded(image: Image.Image, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "!!!!",
        "é",
        "AAAA",
        "AAA",
        encoded(Image.new("L", (9, 9))),
        encoded(Image.new("RGB", (9, 9))),
        encoded(Image.new("1", (9, 9)), "BMP"),
        encoded(Image.new("1", (MAX_SIDE + 1, 1))),
        encoded(Image.new("1", (9, 9)))[:40],
        "\n" + encoded(Image.new("1", (9, 9))),
    ],
    ids=range(11),
)
def test_refuses_other_masks(text):
    with pytest.raises(NotSyntheticError):
        read_png(rewritten(Mask=text))


@pytest.mark.slow
def test_refuses_bombs_before_decoding_them():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    tiny = zlib.compress(b"\0" * 1000)
    bomb = join([(b"IHDR", header), (b"IDAT", tiny), (b"IEND", b"")])
    with pytest.raises(NotSyntheticError):
        read_png(bomb)
    with pytest.raises(NotSyntheticError):
        read_png(rewritten(Mask=base64.b64encode(bomb).decode()))
    parts = chunks(PNG)
    parts.insert(1, (b"zTXt", b"Recipe\0\0" + zlib.compress(b" " * 50_000_000)))
    with pytest.raises(NotSyntheticError):
        read_png(join(parts))


def test_errors_tell_nothing_of_the_machine():
    for data in (b"x", rewritten(Mask="AAAA"), PNG[:-40], with_recipe(guidance_scale=10**400)):
        with pytest.raises(NotSyntheticError) as caught:
            read_png(data)
        assert "0x" not in str(caught.value)
        assert "/" not in str(caught.value)


def test_truncated_and_damaged_files_raise_nothing_else():
    """Every damage is either noticed or harmless; no other exception may escape."""
    rng = np.random.default_rng(0)
    noticed = 0
    small = pair_png(SyntheticPair(phantom(2, 16, 16)[0], PAIR.mask[:16, :16], phantom(1, 9, 12)[1], RECIPE))
    files = [small[:i] for i in range(0, len(small), 7)]
    for _ in range(400):
        data = bytearray(small)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(256)
        files.append(bytes(data))
    for data in files:
        try:
            read_png(data)
        except NotSyntheticError:
            noticed += 1
    assert noticed > len(files) / 2


@pytest.mark.slow
def test_hostile_chunks_raise_nothing_else():
    """Chunks of random content and correct checksum, which Pillow does not notice before it reads them."""
    rng = np.random.default_rng(0)
    parts = chunks(
        pair_png(SyntheticPair(phantom(2, 16, 16)[0], PAIR.mask[:16, :16], phantom(1, 9, 12)[1], RECIPE))
    )
    kinds = [
        b"tEXt",
        b"zTXt",
        b"iTXt",
        b"cHRM",
        b"gAMA",
        b"sRGB",
        b"pHYs",
        b"iCCP",
        b"tRNS",
        b"eXIf",
        b"acTL",
        b"fcTL",
        b"fdAT",
        b"PLTE",
        b"IHDR",
        b"IDAT",
        b"IEND",
    ]
    noticed = read = 0
    for kind in kinds:
        for place in range(1, len(parts)):
            for length in (0, 1, 5, 13, 33):
                hostile = (
                    parts[:place] + [(kind, rng.integers(0, 256, length, np.uint8).tobytes())] + parts[place:]
                )
                try:
                    read_png(join(hostile))
                    read += 1
                except NotSyntheticError:
                    noticed += 1
    assert noticed > 100
    assert read > 100


@pytest.mark.parametrize(
    ("kind", "content"),
    [(b"cHRM", b"\0" * 5), (b"eXIf", b"MM\0*\0\0\0\x08\0"), (b"eXIf", b"II*\0"), (b"gAMA", b"")],
)
def test_short_metadata_chunks(kind, content):
    """These made Pillow raise struct.error or IndexError while it loaded the pixels' end."""
    parts = chunks(PNG)
    try:
        pair = read_png(join(parts[:-1] + [(kind, content)] + parts[-1:]))
    except NotSyntheticError:
        return
    assert pair.recipe == RECIPE  # the chunk was skipped
