"""The bounded reader of hostile ZIP files. Its callers' own limits are tested with them."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest

from siamese.files.archives import ArchivedFileError, ArchiveError, ArchiveLimits, open_archive

LIMITS = ArchiveLimits(entries=20, file_bytes=1000, total_bytes=1500)


def packed(*files: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer


def link(name: str, kind: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (kind | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("a.png", None),
        ("deep/a.png", None),
        ("win\\a.png", None),
        ("./a.png", None),
        ("../a.png", "leads out"),
        ("deep/../../a.png", "leads out"),
        ("win\\..\\a.png", "leads out"),
        ("/a.png", "leads out"),
        ("C:\\a.png", "leads out"),
        (link("a.png", stat.S_IFLNK), "is a link"),
        (link("a.png", stat.S_IFIFO), "is a link or a device"),
        (link("a.png", stat.S_IFREG), None),
    ],
)
def test_a_name_that_leads_out_or_is_not_a_file_is_a_fault(name: str, fault: str | None) -> None:
    with open_archive(packed((name, b"x")), LIMITS) as archive:
        (file,) = archive.files
        assert file.name == "a.png"
        if fault is None:
            assert archive.read(file) == b"x"
        else:
            with pytest.raises(ArchivedFileError, match=fault):
                archive.read(file)


def test_names_that_some_systems_do_not_tell_apart_are_faults() -> None:
    names = ["a.png", "A.PNG", "e\u0301.png", "\u00e9.png", "b/a.png"]
    with open_archive(packed(*((name, b"x") for name in names)), LIMITS) as archive:
        faults = {file.shown: file.fault for file in archive.files if file.fault}
    assert len(faults) == 2
    assert "has the same name as A.PNG" in faults["a.png"]


def test_what_systems_leave_behind_is_passed_over_with_its_name() -> None:
    names = ["a.png", "__MACOSX/._a.png", "x/.DS_Store", "x/Thumbs.db", "._b.png", "@eaDir/a.png"]
    with open_archive(packed(*((name, b"x") for name in names)), LIMITS) as archive:
        assert [file.name for file in archive.files] == ["a.png"]
        assert sorted(one.name for one in archive.passed_over) == sorted(names[1:])


def test_limits_hold_before_and_while_unpacking(tmp_path: Path) -> None:
    with (
        pytest.raises(ArchiveError, match="holds 21 files"),
        open_archive(packed(*((f"{i}", b"") for i in range(21))), LIMITS),
    ):
        pass
    with open_archive(packed(("a", bytes(1001))), LIMITS) as archive:
        assert "at most 0 MB" in archive.files[0].fault
    with open_archive(packed(("a", bytes(900)), ("b", bytes(600)), ("c", b"x")), LIMITS) as archive:
        assert [len(archive.read(file)) for file in archive.files[:2]] == [900, 600]
        with pytest.raises(ArchiveError, match="up to this one"):
            archive.read(archive.files[2])
    (tmp_path / "a.zip").write_bytes(b"PK but no")
    with pytest.raises(ArchiveError, match="not a ZIP file"), open_archive(tmp_path / "a.zip", LIMITS):
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_packing_without_a_bound_is_refused(method: int) -> None:
    with open_archive(packed(("a", bytes(500)), method=method), LIMITS) as archive:
        assert "another method" in archive.files[0].fault
