"""Every probe of a mask file through every caller: one answer, a mask or a refusal."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from siamese.files.decoding import DecodingError
from siamese.masks.core import MaskError, check_mask, fit_mask, resize_mask
from siamese.masks.reading import decode_mask, read_mask
from siamese.records.uploads import UploadError, read_upload
from siamese.studio.storage.mask_zip import BatchError, read_mask_zip
from siamese.study.config import ConfigError
from siamese.study.creation.generated import read_masks
from train.data.pairs import DataError, Pair, check_pairs, load_arrays, load_masks
from train.tools.synthesise import ImageToMake, _check_masks, _mask

H, W = 96, 128
SIDE = 128
yy, xx = np.mgrid[:H, :W]
BIG = ((yy - 40) / 20) ** 2 + ((xx - 60) / 30) ** 2 < 1
INNER = ((yy - 40) / 15) ** 2 + ((xx - 60) / 25) ** 2 < 1
SMALL = (yy - 80) ** 2 + (xx - 110) ** 2 < 49
DOT = (yy - 80) ** 2 + (xx - 110) ** 2 <= 4
MASK = np.where(BIG, 255, 0).astype(np.uint8)
NOISE = np.random.default_rng(0).normal(0, 12, (H, W, 3))
PHOTO = np.clip(np.array([150, 90, 80]) + NOISE, 0, 255).astype(np.uint8)
VOC_COLOURS = [0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * (252 * 3) + [224, 224, 192]


def saved(image: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def deep_png(values: np.ndarray, colour: int, bits: int = 16) -> bytes:
    """A PNG of 16 bits a channel, or of fewer than 8, for what Pillow does not write."""
    rows = values.astype(">u2").reshape(len(values), -1).view(np.uint8) if bits == 16 else values
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", W, H, bits, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts
    )


def tones(*of: tuple[np.ndarray, int], ground: int = 0, dtype: type = np.uint8) -> np.ndarray:
    """[H, W] with each region in its value."""
    image = np.full((H, W), ground, dtype)
    for region, value in of:
        image[region] = value
    return image


def colours(lesion: tuple[int, ...], ground: tuple[int, ...]) -> np.ndarray:
    return np.where(BIG[..., None], np.uint8(lesion), np.uint8(ground))


def palette(indices: np.ndarray, listed: list[int]) -> Image.Image:
    image = Image.fromarray(indices, "P")
    image.putpalette(listed)
    return image


def turned(image: np.ndarray | Image.Image, kind: str = "PNG", orientation: int = 3) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, kind, exif=exif)


def over(lesion: tuple[int, int, int], opacity: int = 255) -> np.ndarray:
    """RGBA [H, W, 4]: the lesion of one colour on transparent of the same colour."""
    return np.dstack([np.full((H, W, 3), lesion, np.uint8), np.where(BIG, opacity, 0).astype(np.uint8)])


def voc() -> Image.Image:
    return palette(np.where(INNER, 1, np.where(BIG, 255, 0)).astype(np.uint8), VOC_COLOURS)


SOFT = cv2.GaussianBlur(MASK, (0, 0), 1.5)
ENLARGED = np.array(Image.fromarray(MASK[::4, ::4]).resize((W, H), Image.Resampling.BILINEAR))
TWO_FRAMES = {"save_all": True, "append_images": [Image.fromarray(255 - MASK)]}
TWICE = np.repeat(MASK[..., None], 3, 2)

READ: dict[str, bytes] = {
    "0 and 255": saved(MASK),
    "0 and 1": saved(MASK // 255),
    "0 and 3": saved(MASK // 85),
    "one bit": saved(MASK > 0),
    "one bit TIFF with white as zero": saved(Image.fromarray(MASK > 0), "TIFF", tiffinfo={262: 0}),
    "BMP of one bit": saved(MASK > 0, "BMP"),
    "BMP": saved(MASK, "BMP"),
    "GIF": saved(MASK, "GIF"),
    "TIFF": saved(MASK, "TIFF", compression="tiff_lzw"),
    "WebP": saved(TWICE, "WEBP", lossless=True),
    "RGB": saved(TWICE),
    "16 and 235": saved(tones((BIG, 235), ground=16)),
    "middle greys on either side": saved(tones((BIG, 128), ground=127)),
    "red on black": saved(colours((200, 0, 0), (0, 0, 0))),
    "dark blue on black": saved(colours((0, 0, 60), (0, 0, 0))),
    "ends of a colour map": saved(colours((253, 231, 37), (68, 1, 84))),
    "palette 0 and 1 of VOC": saved(palette(MASK // 255, VOC_COLOURS)),
    "palette without colours": saved(palette(MASK // 255, [0] * 768)),
    "palette in another order": saved(palette(1 - MASK // 255, [255, 255, 255, 0, 0, 0])),
    "16 bits of 0 and 1": saved(tones((BIG, 1), dtype=np.uint16)),
    "16 bits of 0 and 255": saved(tones((BIG, 255), dtype=np.uint16)),
    "16 bits of 0 and 256": saved(tones((BIG, 256), dtype=np.uint16)),
    "16 bits of 0 and 4095": saved(tones((BIG, 4095), dtype=np.uint16)),
    "16 bits of 0 and 65535": saved(tones((BIG, 65535), dtype=np.uint16)),
    "16 bits TIFF": saved(tones((BIG, 65535), dtype=np.uint16), "TIFF"),
    "16 bits of colour, 0 and 255": deep_png(TWICE, 2),
    "16 bits of colour, 0 and 65535": deep_png(TWICE.astype(np.uint16) * 257, 2),
    "16 bits of the other byte order": saved(
        Image.frombytes("I;16B", (W, H), tones((BIG, 300), dtype=np.dtype(">u2")).tobytes()), "TIFF"
    ),
    "32 bits": saved(tones((BIG, 1), dtype=np.int32), "TIFF"),
    "32 bits above 65535": saved(tones((BIG, 100_000), dtype=np.int32), "TIFF"),
    "floating point 0 and 1": saved(tones((BIG, 1), dtype=np.float32), "TIFF"),
    "floating point 0 and 255": saved(tones((BIG, 255), dtype=np.float32), "TIFF"),
    "white on transparent": saved(over((255, 255, 255))),
    "black on transparent": saved(over((0, 0, 0))),
    "red on transparent": saved(over((220, 30, 40))),
    "half transparent everywhere": saved(np.dstack([TWICE, np.full((H, W), 100, np.uint8)])),
    "half transparent overlay": saved(over((220, 30, 40), 100)),
    "white on transparent in grey": saved(Image.fromarray(over((255, 255, 255))[..., 2:].copy(), "LA")),
    "opaque RGBA": saved(np.dstack([TWICE, np.full((H, W), 255, np.uint8)])),
    "transparent palette index": saved(palette(MASK // 255, [0] * 6), transparency=0),
    "EXIF half turn": turned(MASK[::-1, ::-1].copy()),
    "EXIF half turn of 16 bits": turned(MASK[::-1, ::-1].astype(np.uint16) * 257),
    "EXIF half turn in TIFF": turned(MASK[::-1, ::-1].copy(), "TIFF"),
    "EXIF quarter turn": turned(np.rot90(MASK).copy(), orientation=6),
    "JPEG": saved(MASK, "JPEG", quality=95),
    "JPEG of low quality": saved(MASK, "JPEG", quality=30),
    "JPEG in colour": saved(TWICE, "JPEG", quality=60),
    "JPEG stored again as PNG": saved(Image.open(io.BytesIO(saved(MASK, "JPEG", quality=50)))),
    "lossy WebP": saved(TWICE, "WEBP", quality=60),
    "MPO": saved(MASK, "MPO", save_all=True, append_images=[Image.fromarray(MASK)]),
    "soft edge": saved(SOFT),
    "soft edge on transparent": saved(np.dstack([np.full((H, W, 3), 255, np.uint8), SOFT])),
    "enlarged four times": saved(ENLARGED),
    "soft edge in 16 bits": saved(SOFT.astype(np.uint16) * 257),
    "soft edge in floating point": saved((SOFT / 255).astype(np.float32), "TIFF"),
    "grey edge of one pixel": saved(
        np.where(BIG, np.where(cv2.erode(MASK, np.ones((3, 3), np.uint8)) > 0, 255, 128), 0).astype(np.uint8)
    ),
    "everything": saved(np.full((H, W), 255, np.uint8)),
}
"""Files that show ``BIG``, up to a few pixels at soft edges."""

LABELS, EMPTY, PHOTOGRAPH, UNSURE, FAINT = (
    "so it is unclear what is",
    "empty",
    "not a mask",
    "which one is",
    "lossy",
)
DAMAGED, SEVERAL, UNREADABLE = "damaged or incomplete", "several pictures", "not an image that can be read"
REFUSED: dict[str, tuple[bytes, str]] = {
    "VOC palette with a border of 255": (saved(voc()), LABELS),
    "VOC indices with a border of 255": (saved(np.array(voc())), LABELS),
    "trimap with a border of 128": (saved(tones((BIG, 128), (INNER, 255))), LABELS),
    "trimap of 1, 2 and 3": (saved(tones((BIG, 3), (INNER, 1), ground=2)), LABELS),
    "lesions of 80 and 160": (saved(tones((BIG, 80), (SMALL, 160))), "0, 80, 160"),
    "lesions of 60 and 255": (saved(tones((BIG, 60), (SMALL, 255))), "0, 60, 255"),
    "lesions of 1 and 255": (saved(tones((BIG, 1), (SMALL, 255))), "0, 1, 255"),
    "lesions of 1 and 2": (saved(tones((BIG, 1), (SMALL, 2))), "0, 1, 2"),
    "lesions of 255 and 127": (saved(tones((BIG, 255), (SMALL, 127))), "0, 127, 255"),
    "dots of 127 and 60": (saved(tones((BIG, 255), (DOT, 127))), "0, 127, 255"),
    "a dot of 60": (saved(tones((BIG, 255), (DOT, 60))), "0, 60, 255"),
    "lesions of 255 and 200": (saved(tones((BIG, 255), (SMALL, 200))), "0, 200, 255"),
    "twenty instances": (saved((BIG * (1 + xx // 7)).astype(np.uint8)), LABELS),
    "instances in 16 bits": (saved(tones((BIG, 1), (SMALL, 4000), dtype=np.uint16)), "0, 1, 4000"),
    "instances in floating point": (saved(tones((BIG, 1), (SMALL, 2), dtype=np.float32), "TIFF"), "0, 1, 2"),
    "classes in red and green": (
        saved(np.dstack([BIG * 255, SMALL * 255, BIG * 0]).astype(np.uint8)),
        "#000000, #00ff00, #ff0000",
    ),
    "a band of grey": (saved(np.where(yy > 70, 100, MASK).astype(np.uint8)), "0, 100, 255"),
    "labels 1 and 2": (saved(tones((BIG, 1), ground=2)), UNSURE),
    "red on white": (saved(colours((255, 0, 0), (255, 255, 255))), UNSURE),
    "red on green": (saved(colours((255, 0, 0), (0, 255, 0))), UNSURE),
    "0 and 1 as JPEG": (saved(MASK // 255, "JPEG"), FAINT),
    "0 and 40 as JPEG": (saved(MASK // 6, "JPEG"), PHOTOGRAPH),
    "black": (saved(np.zeros((H, W), np.uint8)), EMPTY),
    "black of one bit": (saved(np.zeros((H, W), bool)), EMPTY),
    "black of 16 bits": (saved(np.zeros((H, W), np.uint16)), EMPTY),
    "nothing but transparency": (saved(np.zeros((H, W, 4), np.uint8)), EMPTY),
    "transparent lesion in black": (saved(np.dstack([TWICE * 0, 255 - MASK])), UNSURE),
    "animation": (saved(MASK, "GIF", **TWO_FRAMES), SEVERAL),
    "animated PNG": (saved(MASK, "PNG", **TWO_FRAMES), SEVERAL),
    "stack": (saved(MASK, "TIFF", **TWO_FRAMES), SEVERAL),
    "cut": (saved(MASK)[:-40], DAMAGED),
    "text": (b"hello", UNREADABLE),
    "of no bytes": (b"", "empty"),
    "negative": (saved(tones((BIG, -1), dtype=np.int32), "TIFF"), "measurements"),
    "not a number": (saved(np.full((H, W), np.nan, np.float32), "TIFF"), "measurements"),
}
PHOTOGRAPHS: dict[str, bytes] = {
    "photograph": saved(PHOTO),
    "JPEG photograph": saved(PHOTO, "JPEG"),
    "grey photograph": saved(PHOTO[..., 0].copy()),
    "dark photograph": saved(PHOTO // 5),
    "16-bit photograph": saved(PHOTO[..., 0].astype(np.uint16) * 257),
    "photograph of colours within the lesion": saved(np.where(BIG[..., None], PHOTO, 0)),
    "ramp": saved(np.tile(np.arange(W, dtype=np.uint8) * 2, (H, 1))),
}
REFUSED |= {name: (data, PHOTOGRAPH) for name, data in PHOTOGRAPHS.items()}


class Caller:
    """A way in which the program reads a mask file: the mask at its own size, at ``SIDE``, or a message."""

    def __init__(self, folder: Path, data: bytes) -> None:
        self.file, self.folder = folder / "mask.png", folder
        self.file.write_bytes(data)
        self.image = folder / "image.png"
        self.pair = Pair("set/mask", self.image, self.file, "a polyp")

    def upload(self) -> np.ndarray:
        upload = read_upload(self.file)
        if upload.mask is None:
            raise UploadError(f"it is a {upload.kind}, not a mask")
        return upload.mask

    def batch(self) -> np.ndarray:
        path = self.folder / "masks.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(self.file, "mask.png")
        return read_mask_zip(path)[0].mask

    def training_check(self) -> None:
        Image.new("RGB", (W, H)).save(self.image)
        check_pairs([self.pair], size=SIDE)

    def training(self) -> np.ndarray:
        Image.new("RGB", (W, H)).save(self.image)
        return load_arrays([self.pair], SIDE)[1][0]

    def evaluation(self) -> np.ndarray:
        return load_masks([self.pair], SIDE)[0]

    def sample(self) -> np.ndarray:
        return _mask(ImageToMake("mask-0", self.file, "a polyp", 0), Model())

    def study(self) -> np.ndarray:
        return read_masks({"mask": self.file})["mask"]


class Model:
    """What ``train sample`` asks of a model."""

    def fit_mask(self, mask: np.ndarray) -> np.ndarray:
        return fit_mask(mask, SIDE)


CALLERS: dict[str, Callable[[Caller], np.ndarray | None]] = {
    "upload": Caller.upload,
    "batch": Caller.batch,
    "training's check": Caller.training_check,
    "training": Caller.training,
    "evaluation": Caller.evaluation,
    "train sample": Caller.sample,
    "study": Caller.study,
}
REFUSALS = (UploadError, BatchError, DataError, ConfigError, DecodingError)


@pytest.mark.slow
@pytest.mark.parametrize("name", READ)
def test_every_caller_reads_the_same_mask(name: str, tmp_path: Path) -> None:
    caller = Caller(tmp_path, READ[name])
    expected = read_mask(caller.file)
    wanted = np.full_like(MASK, 255) if name == "everything" else MASK
    assert expected.shape == wanted.shape
    allowed = 0.02 if "enlarged" in name else 0.006
    assert np.mean(expected != wanted) <= (allowed if len(np.unique(expected)) == 2 else 0), name
    for who, read in CALLERS.items():
        found = read(caller)
        if found is not None:
            assert found.dtype == np.uint8, who
            same = expected if found.shape == expected.shape else resize_mask(expected, SIDE)
            np.testing.assert_array_equal(found, same, err_msg=who)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_every_caller_refuses_with_the_same_sentence(name: str, tmp_path: Path) -> None:
    data, message = REFUSED[name]
    caller = Caller(tmp_path, data)
    with pytest.raises(DecodingError, match=message) as caught:
        read_mask(caller.file)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    for who, read in CALLERS.items():
        with pytest.raises(REFUSALS) as refused:
            read(caller)
        if message == PHOTOGRAPH and who == "upload":
            assert "it is a photo" in str(refused.value)  # the page takes photographs, too
        else:
            assert sentence in str(refused.value), who
        if who != "upload":
            assert "mask" in str(refused.value).replace(sentence, "")  # the file's name


@pytest.mark.slow
def test_a_lesion_that_vanishes_at_the_models_size_is_named(tmp_path: Path) -> None:
    mask = np.zeros((1080, 1920), np.uint8)
    mask[530:534, 950:956] = 255
    caller = Caller(tmp_path, saved(mask))
    Image.new("RGB", (1920, 1080)).save(caller.image)
    vanishing = "vanishes at the model's 128 x 128 pixels"
    with pytest.raises(DataError, match=rf"set/mask: .*{vanishing}"):
        check_pairs([caller.pair], size=SIDE)
    check_pairs([caller.pair])
    with pytest.raises(DataError, match=rf"set/mask .*mask.png.*{vanishing}"):
        load_arrays([caller.pair], SIDE)
    with pytest.raises(DataError, match=rf"mask.png: .*{vanishing}"):
        _check_masks([ImageToMake("mask-0", caller.file, "a polyp", 0)], Model())
    with pytest.raises(MaskError, match=vanishing):
        fit_mask(read_mask(caller.file), SIDE)


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path: Path) -> None:
    caller = Caller(tmp_path, turned(MASK, orientation=6))
    Image.new("RGB", (W, H)).save(caller.image)
    with pytest.raises(DataError, match=r"mask is 96x128, image is 128x96 \(both as their EXIF"):
        check_pairs([caller.pair])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[255]], "list"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((4, 4, 3), np.uint8), r"\[4, 4, 3\]"),
        (np.zeros((0, 4), np.uint8), "at least one pixel"),
        (np.eye(4, dtype=np.uint8), "the largest here is 1"),
    ],
)
def test_arrays_that_are_not_masks(mask: object, message: str) -> None:
    with pytest.raises(MaskError, match=message):
        check_mask(mask)  # type: ignore[arg-type]


def test_a_mask_is_never_inverted() -> None:
    np.testing.assert_array_equal(decode_mask(saved(255 - MASK)), 255 - MASK)
