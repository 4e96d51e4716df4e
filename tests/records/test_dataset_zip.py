"""The ZIP of labelled pairs: what is in it, that training reads it, and that writing is deterministic, streaming and atomic."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from siamese.files.atomic import atomic_file
from siamese.files.names import MAX_NAME_BYTES, safe_name
from siamese.masks.core import resize_mask
from siamese.records.dataset_zip import (
    LabelledPair,
    PairsError,
    check_agreement,
    check_name,
    write_pairs,
)
from siamese.records.prompts import LESION, POLYP
from siamese.records.provenance import FRAME_NOTICE, NOTICE, Recipe, SyntheticPair, pair_png, read_png
from siamese.records.sampling_settings import SamplingSettings
from tests.phantoms import phantom
from train.data.pairs import check_pairs, read_image, read_mask, read_pairs


def pair(seed: int, prompt: str = POLYP, side: int = 32) -> SyntheticPair:
    image, mask = phantom(seed, side, side)[0], phantom(seed)[1]
    return SyntheticPair(
        image,
        resize_mask(mask, side),
        mask,
        Recipe(prompt, seed, SamplingSettings(20, 2.0, "dpm++"), "phantom model"),
    )


def labelled(count: int) -> list[LabelledPair]:
    return [
        LabelledPair(f"case_{i}", pair(i, (POLYP, LESION)[i % 2]), (0.75, None)[i % 2]) for i in range(count)
    ]


def contents(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_holds_the_three_files_of_every_pair(tmp_path):
    pairs = labelled(3)
    assert write_pairs(tmp_path / "a.zip", pairs) == 3
    files = contents(tmp_path / "a.zip")
    assert len(files) == 3 * 3 + 3
    for item in pairs:
        kept = read_png(files[f"images/{item.id}.png"])
        assert kept.recipe == item.pair.recipe
        np.testing.assert_array_equal(kept.image, item.pair.image)
        for folder, mask in (("masks", item.pair.mask), ("drawn_masks", item.pair.drawn)):
            read = np.array(Image.open(io.BytesIO(files[f"{folder}/{item.id}.png"])))
            assert read.dtype == np.uint8  # not bool: what plain readers see is 0 and 255
            np.testing.assert_array_equal(read, mask)


def test_manifest_tells_everything(tmp_path):
    pairs = labelled(2)
    write_pairs(tmp_path / "a.zip", pairs)
    files = contents(tmp_path / "a.zip")
    rows = [json.loads(line) for line in files["manifest.jsonl"].decode().splitlines()]
    assert [row["id"] for row in rows] == ["case_0", "case_1"]
    assert [row["mask_agreement"] for row in rows] == [0.75, None]
    for row, item in zip(rows, pairs, strict=True):
        assert {k: row[k] for k in item.pair.recipe.to_dict()} == item.pair.recipe.to_dict()
        for kind in ("image", "mask", "drawn_mask"):
            assert row[f"{kind}_sha256"] == hashlib.sha256(files[row[kind]]).hexdigest()


def test_readme_says_synthetic_and_points_to_the_licence(tmp_path):
    write_pairs(tmp_path / "a.zip", labelled(1))
    text = contents(tmp_path / "a.zip")["README.txt"].decode()
    assert NOTICE in text
    assert "None of the images shows a patient." in text
    assert "LICENSE" in text
    assert "1 pair of phantom model" in text


def test_readme_warns_of_real_photos(tmp_path):
    pairs = labelled(3)
    image, mask = phantom(5, 20, 30)
    recipe = replace(pairs[1].pair.recipe, background="real photo")
    pairs[1] = LabelledPair("case_1", SyntheticPair(image, mask, mask, recipe))
    write_pairs(tmp_path / "a.zip", pairs)
    files = contents(tmp_path / "a.zip")
    text = files["README.txt"].decode()
    assert FRAME_NOTICE in text
    assert NOTICE not in text
    assert "1 of the images are real photos" in text
    assert "None of the images" not in text
    rows = [json.loads(line) for line in files["manifest.jsonl"].decode().splitlines()]
    assert [row.get("background") for row in rows] == [None, "real photo", None]


def test_training_reads_the_unzipped_folder(tmp_path):
    pairs = labelled(4)
    write_pairs(tmp_path / "a.zip", pairs)
    folder = tmp_path / "elsewhere" / "synthetic"
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(folder)
    as_folder, as_lines = read_pairs([folder], prompt=POLYP), read_pairs([folder / "prompt.json"])
    assert [p.prompt for p in as_folder] == [POLYP] * 4
    assert [p.prompt for p in as_lines] == [POLYP, LESION] * 2
    for read in (as_folder, as_lines):
        check_pairs(read, [POLYP, LESION])
        for item, found in zip(pairs, read, strict=True):
            np.testing.assert_array_equal(read_image(found.image), item.pair.image)
            np.testing.assert_array_equal(read_mask(found.mask), item.pair.mask)


def test_the_released_code_reads_prompt_json(tmp_path, monkeypatch):
    """Its loader parses each line of prompt.json and opens the paths from the working directory."""
    write_pairs(tmp_path / "a.zip", [LabelledPair("x", pair(0, "a polyp,\u2028 and a line separator\n"))])
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    with open("prompt.json") as file:
        (row,) = [json.loads(line) for line in file]
    assert row["prompt"] == "a polyp,\u2028 and a line separator\n"
    assert (
        Image.open(row["source"]).convert("L").size
        == Image.open(row["target"]).convert("RGB").size
        == (32, 32)
    )
    assert len(read_pairs([tmp_path / "prompt.json"])) == 1


def test_same_pairs_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_pairs(tmp_path / f"{name}.zip", labelled(2))
    write_pairs(tmp_path / "c.zip", labelled(3))
    a, b, c = ((tmp_path / f"{n}.zip").read_bytes() for n in "abc")
    assert a == b
    assert a != c


def test_an_image_file_that_exists_is_written_as_it_is(tmp_path):
    png = pair_png(replace(pair(0), recipe=replace(pair(0).recipe, version="0.0.1")))
    write_pairs(tmp_path / "a.zip", [LabelledPair("x", pair(0), png=png)])
    assert contents(tmp_path / "a.zip")["images/x.png"] == png


def test_memory_does_not_grow_with_the_number_of_pairs(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)

    def peak(count: int) -> int:
        tracemalloc.start()
        write_pairs(
            tmp_path / "a.zip",
            (
                LabelledPair(f"{i}", replace(pair(0, side=128), image=noise ^ np.uint8(i)))
                for i in range(count)
            ),
        )
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    peak(1)  # what is imported on the first use
    assert peak(16) - peak(2) < 4 * noise.nbytes


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.zip"
    write_pairs(path, labelled(1))
    before = path.read_bytes()

    def failing():
        yield from labelled(2)
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_pairs(path, failing())
    for wrong, message in [
        ([], "no pairs"),
        ([LabelledPair("a", pair(0)), LabelledPair("A", pair(1))], "two pairs are named A"),
        ([LabelledPair("../a", pair(0))], "cannot name a file"),
        ([LabelledPair("a", pair(0), 1.5)], "lies in 0..1"),
    ]:
        with pytest.raises(PairsError, match=message):
            write_pairs(path, wrong)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_file_is_not_there_before_its_end(tmp_path):
    with atomic_file(tmp_path / "x") as file:
        file.write(b"whole")
        assert not (tmp_path / "x").exists()
    assert (tmp_path / "x").read_bytes() == b"whole"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "a\\b",
        "a b",
        "a.",
        "-a",
        "con",
        "NUL",
        "com1.a",
        "a\n",
        "x" * 121,
        "a:b",
    ],
)
def test_refuses_names_that_are_no_file_names(name):
    with pytest.raises(PairsError, match="cannot name a file"):
        check_name(name)
    check_name(safe_name(name))


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("polyp 7 (b)", "polyp_7__b_"),
        ("Läsion.2", "Läsion.2"),
        ("../../etc", "_.._etc"),
        ("..", "mask"),
        ("aux", "mask_aux"),
        ("é" * 200, "é" * (MAX_NAME_BYTES // 2)),
        ("e\u0301", "é"),
        ("a\x00b", "a_b"),
    ],
)
def test_safe_names(name, safe):
    assert safe_name(name) == safe
    check_name(safe)


def test_agreement_is_a_dice_coefficient():
    assert check_agreement(None) is None
    assert check_agreement(np.float32(0.5)) == 0.5
    assert type(check_agreement(np.float32(0.5))) is float
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(PairsError, match=r"0..1"):
            check_agreement(wrong)


@pytest.mark.slow
def test_the_modules_do_without_torch():
    code = "import sys, siamese.records.dataset_zip, siamese.studio.storage.collections, siamese.studio.storage.mask_zip; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
