"""Atomic writes: whole or not at all, by several writers, and nothing left behind."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from siamese.files.atomic import (
    LEFT_OVER_SECONDS,
    atomic_file,
    remove_left_overs,
    replacing,
    replacing_files,
    unfinished_name,
)
from siamese.files.listing import list_files


def test_a_file_appears_at_the_end_and_what_failed_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    with atomic_file(file) as stream:
        stream.write(b"first")
        assert not file.exists()

    def on_a_full_disk() -> None:
        with replacing(file) as part:
            part.write_bytes(b"se")
            raise OSError(28, "full")

    with pytest.raises(OSError, match="full"):
        on_a_full_disk()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert file.read_bytes() == b"first"


def test_unfinished_files_differ_by_process_and_are_not_data(tmp_path: Path) -> None:
    names = {unfinished_name(tmp_path / "a.npz").name for _ in range(50)}
    assert len(names) == 50
    assert all(name.startswith(f".{os.getpid()}-") and name.endswith(".part.npz") for name in names)
    unfinished_name(tmp_path / "a.png").write_bytes(b"half")
    assert not list_files(tmp_path).files


def test_two_writers_of_one_file_at_once(tmp_path: Path) -> None:
    """Each writes its own part, so the last one wins with a whole file."""
    file, gate = tmp_path / "cache.npz", threading.Barrier(2)

    def write(byte: bytes) -> None:
        with replacing(file) as part:
            part.write_bytes(byte * 500)
            gate.wait(10)
            with part.open("ab") as stream:
                stream.write(byte * 500)

    threads = [threading.Thread(target=write, args=(byte,)) for byte in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_bytes() in (b"a" * 1000, b"b" * 1000)
    assert len(list(tmp_path.iterdir())) == 1


def test_files_of_a_folder_are_replaced_only_once_all_are_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "own").mkdir(parents=True)
    (folder / "weights").write_text("old")

    def on_a_full_disk() -> None:
        with replacing_files(folder) as part:
            part.mkdir()
            (part / "weights").write_text("half")
            raise OSError(28, "full")

    with pytest.raises(OSError, match="full"):
        on_a_full_disk()
    assert (folder / "weights").read_text() == "old"
    with replacing_files(folder) as part:
        (part / "vae").mkdir(parents=True)
        (part / "weights").write_text("new")
        (part / "vae" / "x").write_text("x")
    assert (folder / "weights").read_text() == "new"
    assert sorted(p.name for p in folder.iterdir()) == ["own", "vae", "weights"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_only_old_left_overs_are_removed(tmp_path: Path) -> None:
    old, young, other = (
        unfinished_name(tmp_path / "a.npz"),
        unfinished_name(tmp_path / "b.npz"),
        tmp_path / "c.part.npz",
    )
    for file in (old, young, other):
        file.write_bytes(b"x")
    before = time.time() - LEFT_OVER_SECONDS - 1
    for file in (old, other):
        os.utime(file, (before, before))
    remove_left_overs(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {young.name, other.name}
    remove_left_overs(tmp_path / "missing")
