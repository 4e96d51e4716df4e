"""Reading image-mask pairs: layouts, splits, and one error that names every fault."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siamese.records.prompts import LESION, POLYP
from tests.phantoms import phantom, write_folder, write_json_lines
from train.data.pairs import DataError, Pair, check_pairs, fingerprint, load_arrays, read_pairs


def _names(pairs: list[Pair]) -> list[str]:
    return [p.name for p in pairs]


def test_folder_with_split_files(polyps: Path) -> None:
    names = {split: _names(read_pairs([polyps], split)) for split in ("train", "val", "test")}
    assert names["train"] == [f"kvasir-seg/case {i:02d}" for i in range(8)]  # a name may contain a space
    assert names["val"] == ["kvasir-seg/case 08", "kvasir-seg/case 09"]
    assert names["test"] == ["kvasir-seg/case 10", "kvasir-seg/case 11"]
    assert {p.prompt for p in read_pairs([polyps])} == {POLYP}
    check_pairs(read_pairs([polyps]) + read_pairs([polyps], "val"), [POLYP])


def test_folder_of_folders_equals_its_folders(polyps: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "isic2018", 2)
    shutil.copytree(polyps, tmp_path / "kvasir-seg")
    assert _names(read_pairs([tmp_path])) == _names(
        read_pairs([tmp_path / "kvasir-seg", tmp_path / "isic2018"])
    )
    assert {p.prompt for p in read_pairs([tmp_path])} == {POLYP, LESION}
    assert len(read_pairs([tmp_path], "val")) == 2  # of the folder that has the split


def test_own_folder_without_split_files_is_training_data_whole(tmp_path: Path) -> None:
    own = write_folder(tmp_path / "ward", 3)
    assert len(read_pairs([own], "train", POLYP)) == 3
    assert read_pairs([own], "val", POLYP, required=False) == []
    with pytest.raises(DataError, match=r"no val pairs in .*ward"):
        read_pairs([own], "val", POLYP)
    with pytest.raises(DataError, match="pass --prompt"):
        read_pairs([own])


def test_training_split_without_its_file_is_what_the_other_files_leave(tmp_path: Path) -> None:
    own = write_folder(tmp_path / "ward", 4, {"val": range(1), "test": range(3, 4)})
    assert _names(read_pairs([own], "train", POLYP)) == ["ward/case 01", "ward/case 02"]


@pytest.mark.parametrize(
    ("in_file", "given", "expected"),
    [
        (LESION, None, LESION),
        (None, POLYP, POLYP),
        (LESION, POLYP, POLYP),
        ("", POLYP, POLYP),
        ("", None, ""),
        (LESION, "", ""),
    ],
)
def test_json_lines(tmp_path: Path, in_file: str | None, given: str | None, expected: str) -> None:
    folder = write_folder(tmp_path / "any", 3)
    file = write_json_lines(tmp_path / "train.jsonl", folder, in_file)
    pairs = read_pairs([file], "train", given)
    assert [p.image for p in pairs] == sorted((folder / "images").iterdir())
    assert [p.mask.name for p in pairs] == [p.image.name for p in pairs]
    assert {p.prompt for p in pairs} == {expected}
    check_pairs(pairs)
    assert (
        read_pairs([file], "val", given, required=False) == []
    )  # whole for training, as a folder without split files


def test_prompt_that_is_given_wins_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """For lines with a prompt of their own and for data sets whose name tells one; silent if nothing is replaced, and said once."""
    known, own = write_folder(tmp_path / "kvasir-seg", 2), write_folder(tmp_path / "ward", 2)
    lines = write_json_lines(tmp_path / "train.jsonl", known, LESION)
    for split in ("train", "val", "train"):
        pairs = read_pairs([known, own, lines], split, "a polyp", required=False)
    assert {p.prompt for p in pairs} == {"a polyp"}
    assert len(pairs) == 6
    assert [line for line in capsys.readouterr().out.splitlines() if "--prompt" in line] == [
        f"{known}: --prompt, 'a polyp', takes the place of this data set's {POLYP!r}.",
        f"{lines}: --prompt, 'a polyp', takes the place of the prompts of 2 lines ({LESION!r}).",
    ]
    assert {p.prompt for p in read_pairs([known], "train", POLYP) + read_pairs([lines], "train", LESION)} == {
        POLYP,
        LESION,
    }
    assert {p.prompt for p in read_pairs([known, own, lines], otherwise="")} == {POLYP, "", LESION}
    assert "--prompt" not in capsys.readouterr().out


def test_json_lines_with_byte_order_mark(tmp_path: Path) -> None:
    file = write_json_lines(tmp_path / "train.json", write_folder(tmp_path / "any", 2), POLYP)
    file.write_text(file.read_text(), encoding="utf-8-sig")
    assert len(read_pairs([file])) == 2


def test_bad_json_lines_are_all_listed(tmp_path: Path) -> None:
    file = tmp_path / "train.json"
    file.write_text(
        '{"source": "m.png", "target": "i.png", "prompt": "p"}\n\nno json\n{"source": "m.png"}\n[1]\n{"source": "m", "target": "i"}\n'
    )
    with pytest.raises(DataError) as error:
        read_pairs([file])
    for part in (
        "line 3: JSONDecodeError",
        "line 4: KeyError('target')",
        "line 5: TypeError",
        "line 6: no prompt",
    ):
        assert part in str(error.value)
    assert "  line 1:" not in str(error.value)
    assert "  line 2:" not in str(error.value)
    file.write_bytes(b"\xff\xd8\xff\xe0 an image")
    with pytest.raises(DataError, match="not a text file"):
        read_pairs([file])


def test_source_that_is_not_there_or_has_no_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: expected a folder with images/"):
        read_pairs([tmp_path / "nowhere"], "train", POLYP)
    with pytest.raises(DataError, match="expected a folder with images/"):
        read_pairs([tmp_path], "train", POLYP)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="no masks/ folder"):
        read_pairs([tmp_path], "train", POLYP)


def test_every_fault_is_named_in_one_error(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "kvasir-seg", 12)
    images, masks = folder / "images", folder / "masks"
    (images / "case 00.png").unlink()  # leaves a mask alone, which is not a fault
    Image.fromarray(phantom(1, 32, 32)[1]).save(masks / "case 01.png")
    Image.new("L", (64, 48)).save(masks / "case 02.png")
    Image.fromarray(np.where(phantom(3)[1] > 0, 2, np.arange(64) % 64 > 31).astype(np.uint8)).save(
        masks / "case 03.png"
    )
    Image.fromarray(np.linspace(0, 255, 64).astype(np.uint8)[None].repeat(48, 0)).save(masks / "case 04.png")
    (images / "case 05.png").write_bytes(b"not an image")
    whole = (images / "case 06.png").read_bytes()
    (images / "case 06.png").write_bytes(whole[: len(whole) // 2])
    damaged = (masks / "case 07.png").read_bytes()
    (masks / "case 07.png").write_bytes(damaged.replace(b"IDAT", b"\x01\x02\x03\x04"))
    (images / "case 08.png").unlink()
    pairs = read_pairs([folder]) + [
        Pair("other/no mask", images / "case 10.png", masks / "no mask.png", POLYP),
        Pair("kvasir-seg/case 09", images / "case 09.png", masks / "case 09.png", POLYP),
        Pair("kvasir-seg/case 08", images / "case 08.png", masks / "case 08.png", POLYP),
        Pair("other/10", images / "case 10.png", masks / "case 10.png", POLYP),
        Pair("other/11", images / "case 11.png", images / "case 11.png", "a cat"),
    ]
    with pytest.raises(DataError) as error:
        check_pairs(pairs, [POLYP, LESION])
    message = str(error.value)
    for fault in (
        "other/no mask: no mask",
        "case 01: mask is 32x32, image is 64x48",
        "case 02: unreadable mask: This mask is empty",
        "case 03: unreadable mask: This mask has 3 values (0, 1, 2)",
        "case 04: unreadable mask: This image is not a mask",
        "case 05: unreadable image",
        "case 06: unreadable image",
        "case 07: unreadable mask",
        "case 08: no image",
        "case 09: listed twice",
        "other/10: the same files as kvasir-seg/case 10",
        "other/11: unknown prompt 'a cat'; known: ",
        "other/11: unreadable mask: This image is not a mask",
    ):
        assert fault in message, fault
    assert "kvasir-seg/case 10:" not in message
    assert "kvasir-seg/case 11:" not in message
    assert "case 00" not in message


def test_duplicate_line_of_a_split_file(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "kvasir-seg", 2, {"train": range(2), "val": range(1)})
    with pytest.raises(
        DataError, match=r"val.txt, line 1: case 00: listed twice, before in train.txt, line 1"
    ):
        read_pairs([folder])


def test_a_set_that_is_given_twice(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "kvasir-seg", 1)
    with pytest.raises(DataError, match=r"1 of 2 pairs .*\n  kvasir-seg/case 00: listed twice"):
        check_pairs(read_pairs([folder, folder]))


def test_masks_that_jpeg_has_blurred_pass(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "kvasir-seg", 1, height=200, width=200)
    file = folder / "masks" / "case 00.png"
    Image.open(file).save(file.with_suffix(".jpg"), quality=80)
    file.unlink()
    assert len(np.unique(np.asarray(Image.open(file.with_suffix(".jpg"))))) > 2
    check_pairs(read_pairs([folder]))


def test_mask_is_thresholded_at_its_own_size_then_resized_nearest(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "kvasir-seg", 1)
    grey = np.array([[0, 0, 255, 255]] * 4, np.uint8).repeat(2, 0).repeat(2, 1)
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(grey).save(folder / "masks" / "case 00.png")
    Image.fromarray(colours).save(folder / "images" / "case 00.png")
    images, masks = load_arrays(read_pairs([folder]), 4)
    assert masks.tolist() == [[[0, 0, 255, 255]] * 4]
    images, masks = load_arrays(read_pairs([folder]), 11)
    assert set(np.unique(masks)) == {0, 255}
    assert np.array_equal(
        images[0], np.asarray(Image.fromarray(colours).resize((11, 11), Image.Resampling.BILINEAR))
    )
    assert not np.array_equal(
        images[0], np.asarray(Image.fromarray(colours).resize((11, 11), Image.Resampling.NEAREST))
    )
    nearest = np.asarray(
        Image.fromarray(np.where(grey > 127, 255, 0).astype(np.uint8)).resize(
            (11, 11), Image.Resampling.NEAREST
        )
    )
    assert np.array_equal(masks[0], nearest)


def test_aspect_is_not_kept(polyps: Path) -> None:
    images, masks = load_arrays(read_pairs([polyps]), 32)
    assert images.shape == (8, 32, 32, 3)
    assert masks.shape == (8, 32, 32)
    assert images.flags.writeable
    assert images.dtype == masks.dtype == np.uint8


def test_fingerprint_is_of_contents_not_of_places(polyps: Path, tmp_path: Path) -> None:
    copy = tmp_path / "kvasir-seg"
    shutil.copytree(polyps, copy)
    assert fingerprint(read_pairs([copy])) == fingerprint(read_pairs([polyps]))
    file = copy / "masks" / "case 02.png"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # of the same length
    file.write_bytes(content)
    assert fingerprint(read_pairs([copy])) != fingerprint(read_pairs([polyps]))
    pair = read_pairs([polyps])[0]
    assert fingerprint([pair]) != fingerprint([Pair(pair.name, pair.image, pair.mask, LESION)])
