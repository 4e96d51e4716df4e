"""Batches: hostile and ordinary ZIPs of masks."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siamese.files.decoding import MAX_SIDE, Limits
from siamese.files.listing import IMAGE_SUFFIXES
from siamese.studio.storage import mask_zip
from siamese.studio.storage.mask_zip import MAX_MASKS, BatchError, read_mask_zip
from tests.factories import mask_of
from tests.phantoms import phantom


def picture(array: np.ndarray, suffix: str = ".png", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(
        buffer, "JPEG" if suffix[1] == "j" else "TIFF" if suffix == ".tif" else suffix[1:], **options
    )
    return buffer.getvalue()


def make_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def zipped(tmp_path):
    return lambda files, **options: make_zip(tmp_path / "masks.zip", files, **options)


def refused(path: Path) -> BatchError:
    with pytest.raises(BatchError) as caught:
        read_mask_zip(path)
    return caught.value


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_reads_every_format(zipped, suffix):
    options = {"lossless": True} if suffix == ".webp" else {"quality": 100} if suffix.startswith(".j") else {}
    (found,) = read_mask_zip(zipped({f"a{suffix.upper()}": picture(mask_of(), suffix, **options)}))
    assert found.name == "a"
    assert found.mask.dtype == np.uint8
    assert set(np.unique(found.mask)) == {0, 255}
    assert np.mean(found.mask != mask_of()) < (0.01 if suffix.startswith(".j") else 1e-9)


def test_finds_masks_in_folders_and_passes_over_the_rest(zipped):
    good = picture(mask_of())
    path = zipped(
        {
            "b.png": good,
            "set/deep/a 1.png": good,
            "win\\c.png": good,
            "__MACOSX/._a.png": b"x",
            "set/.hidden.png": b"x",
            ".git/x.png": b"x",
            "set/Thumbs.db": b"x",
            "README.txt": b"x",
            "prompt.json": b"{}",
            "empty/": b"",
        }
    )
    assert [m.name for m in read_mask_zip(path)] == ["a_1", "b", "c"]


def test_extracts_nothing(zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read_mask_zip(zipped({"deep/a.png": picture(mask_of())}))
    assert [p.name for p in tmp_path.iterdir()] == ["masks.zip"]


def test_thresholds_and_transparency(zipped):
    lesion = mask_of() > 127
    grey = np.where(lesion, 128, 127).astype(np.uint8)
    red_on_nothing = np.zeros((*lesion.shape, 4), np.uint8)
    red_on_nothing[lesion] = (90, 0, 0, 255)
    black_on_nothing = np.zeros_like(red_on_nothing)
    black_on_nothing[lesion, 3] = 255
    opaque = np.dstack([mask_of()] * 3 + [np.full_like(grey, 255)])
    two_colours = np.dstack([mask_of()] * 3 + [np.full_like(grey, 255)])
    two_colours[0, 0] = (255, 255, 255, 0)  # white, but not seen
    deep = np.where(lesion, 40000, 30000).astype(np.uint16)
    files = {"1": grey, "2": red_on_nothing, "3": black_on_nothing, "4": opaque, "5": two_colours, "6": deep}
    for found in read_mask_zip(
        zipped({f"{k}.png": picture(a) for k, a in files.items()} | {"7.png": picture(lesion)})
    ):
        np.testing.assert_array_equal(found.mask, mask_of(), err_msg=found.name)


def test_lists_every_bad_file_by_name(zipped):
    good = picture(mask_of())
    stack = io.BytesIO()
    Image.fromarray(mask_of()).save(
        stack, "TIFF", save_all=True, append_images=[Image.fromarray(255 - mask_of())]
    )
    error = refused(
        zipped(
            {
                "good.png": good,
                "cut.png": good[:-40],
                "text.png": b"no picture",
                "black.png": picture(np.zeros((8, 8), np.uint8)),
                "two/same.png": good,
                "same.jpg": picture(mask_of(), ".jpg"),
                "SAME.bmp": picture(mask_of(), ".bmp"),
                "volume.nii": b"x",
                "wide.png": picture(np.full((2, 4097), 255, np.uint8)),
                "stack.tif": stack.getvalue(),
                "../out.png": good,
                "/root.png": good,
                "C:\\drive.png": good,
                "photo.tif": picture(phantom(0)[0], ".tif"),
                "empty.png": b"",
                "evil\n<b>.png": b"x",
            }
        )
    )
    faults = dict(fault.split(": ", 1) for fault in error.faults)
    for name, fault in {
        "cut.png": "damaged or incomplete",
        "text.png": "not an image that can be read",
        "black.png": "mask is empty",
        "two/same.png": "same name as",
        "same.jpg": "same name as SAME.bmp",
        "volume.nii": "not a file of a known kind",
        "wide.png": "4097 x 2",
        "stack.tif": "several pictures",
        "../out.png": "leads out",
        "/root.png": "leads out",
        "C:\\drive.png": "leads out",
        "photo.tif": "not a mask",
        "empty.png": "The file is empty",
        "evil?<b>.png": "not an image that can be read",
    }.items():
        assert fault in faults.pop(name), name
    assert not faults
    assert all(fault in str(error) for fault in error.faults)


def test_refuses_what_is_not_a_zip(tmp_path, zipped):
    (tmp_path / "a.zip").write_bytes(b"PK but no")
    assert "not a ZIP file" in str(refused(tmp_path / "a.zip"))
    assert "no masks" in str(refused(zipped({"readme.txt": b""})))


def test_encrypted_entries_are_named(zipped):
    path = zipped({"a.png": picture(mask_of()), "b.png": picture(mask_of())})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    assert refused(path).faults == ("a.png: is encrypted; pack it without a password",)


def test_damaged_bytes_are_named(zipped):
    path = zipped({"a.png": picture(mask_of()), "b.png": picture(mask_of())}, method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[60] ^= 255  # its checksum is wrong now
    path.write_bytes(data)
    (fault,) = refused(path).faults
    assert fault.startswith("a.png: cannot be read")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_packing_is_refused(zipped, method):
    """zipfile unpacks a chunk of these whole, however large it becomes."""
    assert "another method than deflate" in str(refused(zipped({"a.png": bytes(10_000)}, method=method)))


def test_a_zip_bomb_is_not_unpacked(zipped, monkeypatch):
    path = zipped({"a.png": bytes(30_000_000)})
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked"))
    assert "30 MB unpacked" in str(refused(path))


@pytest.mark.parametrize(("size", "claimed"), [(30_000_000, 1000), (1000, 5000)])
def test_an_entry_that_lies_about_its_size_is_named(zipped, size, claimed):
    path = zipped({"a.png": bytes(size)})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = struct.pack("<I", claimed)
    path.write_bytes(data)
    (fault,) = refused(path).faults
    assert fault.startswith(
        "a.png: cannot be read (Bad CRC" if claimed < size else "a.png: is not as long as the ZIP says"
    )


def test_a_picture_bomb_is_not_decoded(zipped, monkeypatch):
    bomb = picture(np.full((4097, 4097), 255, np.uint8))
    assert len(bomb) < 200_000
    path = zipped({"a.png": bomb})
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: pytest.fail("decoded"))
    assert "4097 x 4097" in str(refused(path))


def test_limits(zipped, tmp_path, monkeypatch):
    good = {f"{i}.png": picture(mask_of(i)) for i in range(6)}
    path = zipped(good)
    assert len(read_mask_zip(path)) == 6
    for limit, value, message in [
        ("MAX_ZIP_BYTES", 100, "the ZIP has"),
        ("MAX_MASKS", 5, "holds 6 files.*at most 5"),
        ("MAX_ENTRIES", 5, "at most 5"),
        ("MAX_FILE_BYTES", 10, "at most"),
        ("VISITOR", Limits(50, 10**6), "64 x 48 pixels"),
        ("MAX_TOTAL_BYTES", 6 * mask_of().size - 1, "5.png: .*million pixels"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(mask_zip, limit, value)
            with pytest.raises(BatchError, match=message):
                read_mask_zip(path)
    large = {f"{i}.bmp": picture(mask_of(i), ".bmp") for i in range(6)}  # more bytes than pixels
    monkeypatch.setattr(mask_zip, "MAX_TOTAL_BYTES", sum(map(len, large.values())))
    assert len(read_mask_zip(zipped(large))) == 6
    monkeypatch.setattr(mask_zip, "MAX_TOTAL_BYTES", sum(map(len, large.values())) - 1)
    assert "5.bmp: the files up to this one have more than 0 MB unpacked" in str(refused(zipped(large)))


def test_limits_are_those_that_were_chosen():
    assert (
        MAX_MASKS,
        mask_zip.MAX_ZIP_BYTES,
        mask_zip.MAX_FILE_BYTES,
        MAX_SIDE,
        mask_zip.MAX_TOTAL_BYTES,
    ) == (
        200,
        20e6,
        20 * 2**20,
        4096,
        400e6,
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_any_damage_is_a_batch_error_or_none(tmp_path):
    """Random damage to ZIP and pictures never raises anything else."""
    rng, path, seen = random.Random(0), tmp_path / "a.zip", set()
    files = {
        f"a{s}": picture(mask_of(), s) for s in IMAGE_SUFFIXES if s not in (".jpeg", ".jpe", ".jfif", ".tiff")
    }
    for _ in range(60):
        changed = {}
        for name, data in files.items():
            array = bytearray(data)
            for _ in range(3):
                array[rng.randrange(min(len(array), 200))] = rng.randrange(256)
            changed[f"{name[1:]}{name}"] = bytes(array)
        make_zip(path, {f"{i}{n[-5:].lstrip('.')}": d for i, (n, d) in enumerate(changed.items())})
        if rng.random() < 0.2:
            raw = bytearray(path.read_bytes())
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            path.write_bytes(raw)
        try:
            seen.add(len(read_mask_zip(path)))
        except BatchError as error:
            assert error.faults or "ZIP" in str(error)
            seen.add("error")
    assert "error" in seen
