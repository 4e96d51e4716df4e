"""Every naming probe through every reader of folders and archives: what is read, and that everything else is named."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siamese.records.dataset_zip import LabelledPair, write_pairs
from siamese.records.prompts import LESION, POLYP
from siamese.records.provenance import Recipe, SyntheticPair
from siamese.records.sampling_settings import SamplingSettings
from siamese.studio.storage.mask_zip import BatchError, read_mask_zip
from siamese.study.config import ConfigError
from siamese.study.creation.folders import match_files
from siamese.study.web.archive import unpack
from tests.phantoms import phantom, write_folder
from train.data.pairs import DataError, check_pairs, read_pairs
from train.tools.synthesise import SampleConfig, images_to_make

MASK = phantom(0)[1]
FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "tif": "TIFF", "bmp": "BMP"}


def content(name: str) -> bytes:
    """A mask, if the name is that of an image, otherwise something else."""
    kind = FORMATS.get(name.rpartition(".")[2].lower())
    if kind is None or name.rpartition("/")[2].startswith("."):
        return b"x"
    buffer = io.BytesIO()
    Image.fromarray(MASK).save(buffer, kind)
    return buffer.getvalue()


def write(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content(name))
    return folder


def packed(file: Path, names: tuple[str, ...]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, content(name))
    return file


def by_training(place: Path, probe: Probe, said: Callable[[], str]) -> tuple[set[str], str]:
    write(place / "ward" / "images", tuple(f"{key}.png" for key in probe.keys))
    write(place / "ward" / "masks", probe.names)
    pairs = read_pairs([place / "ward"], "train", POLYP)
    return {pair.name.removeprefix("ward/") for pair in pairs}, said()


def by_sample(place: Path, probe: Probe, said: Callable[[], str]) -> tuple[set[str], str]:
    config = SampleConfig(model="", out=place, masks=write(place / "ward", probe.names), prompt=POLYP)
    return {job.name.removesuffix("-0") for job in images_to_make(config)}, said()


def by_batch(place: Path, probe: Probe, said: Callable[[], str]) -> tuple[set[str], str]:
    masks = read_mask_zip(packed(place / "masks.zip", probe.names))
    return {mask.name for mask in masks}, " ".join(map(str, masks.passed_over))


def by_study(place: Path, probe: Probe, said: Callable[[], str]) -> tuple[set[str], str]:
    folders = {
        "real": write(place / "real", tuple(f"{key}.png" for key in probe.keys)),
        "Ours": write(place / "Ours", probe.names),
    }
    found, problems, left_out = match_files(folders)
    if problems:
        raise ConfigError(problems)
    return set(found["Ours"]), " ".join(left_out)


def by_study_zip(place: Path, probe: Probe, said: Callable[[], str]) -> tuple[set[str], str]:
    names = tuple(f"real/{key}.png" for key in probe.keys) + tuple(f"Ours/{name}" for name in probe.names)
    notes: list[str] = []
    place.joinpath("out").mkdir()
    with packed(place / "study.zip", names).open("rb") as stream:
        folders = unpack(stream, place / "out", notes.append)
    found, problems, left_out = match_files(folders)
    if problems:
        raise ConfigError(problems)
    return set(found["Ours"]), " ".join(notes + left_out)


READERS = {
    "training": by_training,
    "sample": by_sample,
    "batch": by_batch,
    "study": by_study,
    "study zip": by_study_zip,
}
FOLDERS, STUDIES = ("training", "sample", "study"), ("study", "study zip")
ALL = tuple(READERS)


@dataclass(frozen=True)
class Probe:
    """Files of masks, or of images of a study's method, and what is to be read of them."""

    names: tuple[str, ...]
    keys: tuple[str, ...]
    """As they are read; a training set and a study have images of these names beside."""
    named: tuple[str, ...] = ()
    """What must be named as passed over."""
    readers: tuple[str, ...] = ALL
    refused: str | None = None
    """Part of the error, if the reader refuses the whole."""
    own: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Keys of a reader that differ."""


PROBES = {
    "upper case": Probe(("A.PNG", "b.Jpg", "c.TIF"), ("A", "b", "c")),
    "dots and spaces": Probe(
        ("v1.2.png", "case 1.png"), ("v1.2", "case 1"), own={"batch": ("v1.2", "case_1")}
    ),
    "decomposed letters": Probe(("e\u0301.png", "a.png"), ("\u00e9", "a")),
    "apple": Probe(("a.png", "._a.png", ".DS_Store"), ("a",), ("._a.png", ".DS_Store")),
    "windows": Probe(("a.png", "Thumbs.db", "desktop.ini"), ("a",), ("Thumbs.db", "desktop.ini")),
    "archive of a mac": Probe(("a.png", "__MACOSX/._a.png"), ("a",), ("__MACOSX",)),
    "texts": Probe(("a.png", "README.md", "list.csv"), ("a",), ("README.md", "list.csv")),
    "unknown kind": Probe(("a.png", "volume.nii"), ("a",), ("volume.nii",), (*FOLDERS, "study zip")),
    "unknown kind in a batch": Probe(("a.png", "volume.nii"), ("a",), (), ("batch",), "volume.nii"),
    "one name twice": Probe(("a.png", "a.jpg"), ("a",), (), ALL, "a.jpg"),
    "one name in two forms": Probe(("e\u0301.png", "\u00e9.jpg"), ("\u00e9",), (), ALL, "\u00e9.jpg"),
    "nested": Probe(("a.png", "deep/b.png"), ("a",), ("deep/",), FOLDERS),
    "nested in a batch": Probe(("a.png", "deep/b.png"), ("a", "b"), (), ("batch",)),
    "nested in a study's archive": Probe(
        ("a.png", "deep/b.png"), ("a",), (), ("study zip",), "one folder a method"
    ),
    "backslashes": Probe(("win\\a.png", "win\\b.png"), ("a", "b"), (), ("batch",)),
    "masks' endings": Probe(("x_segmentation.png", "y_MASK.png"), ("x", "y"), (), ("training", *STUDIES)),
    "masks' endings kept": Probe(("x_segmentation.png",), ("x_segmentation",), (), ("sample", "batch"), None),
    "two endings of one mask": Probe(
        ("x_segmentation.png", "x_mask.png"), ("x",), (), ("training", *STUDIES), "x_mask.png"
    ),
    "a mask alone": Probe(("a.png", "b.png"), ("a",), ("b",), ("training",)),
    "a mask alone in a study": Probe(
        ("a.png", "b.png"), ("a",), ("'b'",), STUDIES, own=dict.fromkeys(STUDIES, ("a", "b"))
    ),
    "another case": Probe(("A.png", "b.png"), ("b", "a"), (), ("training",), "a.png: no mask"),
}


@pytest.mark.parametrize(
    ("reader", "probe"), [(reader, name) for name, probe in PROBES.items() for reader in probe.readers]
)
def test_a_probe_is_read_alike_by_every_reader(
    reader: str, probe: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    wanted = PROBES[probe]
    place = tmp_path / "place"
    place.mkdir()

    def read() -> tuple[set[str], str]:
        return READERS[reader](place, wanted, lambda: capsys.readouterr().out)

    if wanted.refused is not None:
        with pytest.raises((BatchError, ConfigError, DataError)) as error:
            read()
        assert wanted.refused in str(error.value)
        return
    keys, said = read()
    assert keys == set(wanted.own.get(reader, wanted.keys))
    for name in wanted.named:
        assert name in said, said


# --- the studio's own exports ---


def exported(file: Path) -> Path:
    """A collection's or batch's ZIP of two pairs with different prompts."""
    pairs = [
        SyntheticPair(
            *phantom(i), phantom(i)[1], Recipe(prompt, i, SamplingSettings(20, 2.0, "dpm++"), "phantom model")
        )
        for i, prompt in enumerate((POLYP, LESION))
    ]
    write_pairs(file, [LabelledPair(f"case_{i}", pair) for i, pair in enumerate(pairs)])
    return file


@pytest.mark.parametrize("kind", ["zip", "unpacked", "folder around"])
def test_an_export_is_trained_on_as_it_is(kind: str, tmp_path: Path) -> None:
    """With its own prompts, and without a file of it taken for a mask that is none."""
    source = exported(tmp_path / "synthetic-batch.zip")
    if kind != "zip":
        with zipfile.ZipFile(source) as archive:
            archive.extractall(tmp_path / "got" / "synthetic-batch")
        source = tmp_path / "got" / ("synthetic-batch" if kind == "unpacked" else "")
    pairs = read_pairs([source])
    assert [pair.name for pair in pairs] == ["synthetic-batch/case_0", "synthetic-batch/case_1"]
    assert [pair.prompt for pair in pairs] == [POLYP, LESION]
    check_pairs(pairs)


def test_an_export_is_a_batch_of_its_masks(tmp_path: Path) -> None:
    masks = read_mask_zip(exported(tmp_path / "pairs.zip"))
    assert [mask.name for mask in masks] == ["case_0", "case_1"]
    assert all(np.array_equal(mask.mask, phantom(i)[1]) for i, mask in enumerate(masks))
    passed_over = {one.name for one in masks.passed_over}
    assert passed_over > {"images/case_0.png", "drawn_masks/case_1.png", "prompt.json"}


def test_the_masks_of_a_data_set_are_sampled(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "made", 2)
    (folder / "prompt.json").write_text("")
    jobs = images_to_make(SampleConfig(model="", out=tmp_path, masks=folder, prompt=POLYP))
    assert [job.mask for job in jobs] == sorted((folder / "masks").iterdir())


# --- a test set is never trained on ---


@pytest.mark.parametrize(
    "file",
    ["0004", "0004.png", "images/0004.png", "masks\\0004.png", "# comment\r\n\r\n0004\r\n", "\ufeff0004"],
)
def test_ids_of_a_test_set_may_be_file_names(file: str, tmp_path: Path) -> None:
    folder = tmp_path / "ward"
    for part in ("images", "masks"):
        write(folder / part, ("0001.png", "0004.png"))
    (folder / "test.txt").write_bytes(file.encode())
    assert [p.name for p in read_pairs([folder], "train", POLYP)] == ["ward/0001"]
    assert [p.name for p in read_pairs([folder], "test", POLYP)] == ["ward/0004"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test.txt", b"0004\n", "line 1: 0004: there is no image"),
        ("test.txt", b"Case 01\n", "there is 'case 01'"),
        ("test.txt", b"case 00,case 01\n", "there is no image"),
        ("test.txt", b"case 00\ncase 00\n", "line 2: case 00: listed twice"),
        ("test.txt", b"\x89PNG\xff", "cannot be read as a list"),
        ("test.txt", b"a\0b", "not a text file"),
        ("testing_of_cases.txt", b"case 00\n", "named like a split"),
        ("test.csv", b"case 00\n", "named like a split"),
        ("val_ids.json", b"[]", "named like a split"),
    ],
)
def test_a_list_that_is_not_understood_is_an_error(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "ward", 2)
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_pairs([folder], "train", POLYP)


@pytest.mark.parametrize("name", ["valid.txt", "Val.txt", "validation.TXT", "val_ids.txt"])
def test_other_names_of_split_files(name: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "ward", 2)
    (folder / name).write_bytes("case 01\n".encode("utf-16"))
    assert [p.name for p in read_pairs([folder], "train", POLYP)] == ["ward/case 00"]
    assert [p.name for p in read_pairs([folder], "val", POLYP)] == ["ward/case 01"]
    (folder / "val.txt").write_text("case 00\n")
    if name != "Val.txt" or not (folder / "VAL.TXT").exists():
        with pytest.raises(DataError, match="both list the val split"):
            read_pairs([folder], "train", POLYP)


def test_splits_as_folders(tmp_path: Path) -> None:
    for split in ("train", "validation", "Test"):
        write_folder(tmp_path / "Kvasir-SEG" / split, 1)
    names = {s: [p.name for p in read_pairs([tmp_path / "Kvasir-SEG"], s)] for s in ("train", "val", "test")}
    assert names == {
        "train": ["Kvasir-SEG/train/case 00"],
        "val": ["Kvasir-SEG/validation/case 00"],
        "test": ["Kvasir-SEG/Test/case 00"],
    }
    with pytest.raises(DataError, match=r"no train pairs .* is named like a test split"):
        read_pairs([tmp_path / "Kvasir-SEG" / "Test"])
    assert {p.prompt for p in read_pairs([tmp_path / "Kvasir-SEG" / "train"])} == {POLYP}


def test_a_test_set_beside_or_within_a_data_set(tmp_path: Path) -> None:
    for folder in ("ward", "ward/test", "TestDataset/CVC-300"):
        write_folder(tmp_path / "all" / folder, 1)
    assert [p.name for p in read_pairs([tmp_path / "all"], "train", POLYP)] == ["ward/case 00"]
    write_folder(tmp_path / "all" / "test_of_ward", 1)
    with pytest.raises(DataError, match="test_of_ward: its name says neither"):
        read_pairs([tmp_path / "all"], "train", POLYP)
    lines = tmp_path / "test.jsonl"
    lines.write_text('{"source": "m.png", "target": "i.png", "prompt": "p"}\n')
    assert not read_pairs([lines], "train", required=False)
    assert len(read_pairs([lines], "test")) == 1


def test_counts_and_everything_that_is_not_read_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = write_folder(tmp_path / "ward", 5, {"train": range(2), "val": range(2, 3)})
    (folder / "masks" / "case 04.png").unlink()
    (folder / "old").mkdir()
    for split in ("train", "val", "train"):
        read_pairs([folder], split, POLYP)
    said = capsys.readouterr().out
    assert said.count(f"{folder}: 2 train, 1 val, no test; not read:") == 1
    for line in (
        "images/case 03.png: in none of the split files",
        "images/case 04.png: no mask of this name",
        "old/: a folder beside images/ and masks/",
        f"train: 2 pairs in {folder} (2 of {POLYP!r})",
        f"val: 1 pairs in {folder} (1 of {POLYP!r})",
    ):
        assert said.count(line) == 1, line
