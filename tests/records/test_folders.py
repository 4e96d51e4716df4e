"""Cleaning up beside visitors who make and remove the same folders."""

from __future__ import annotations

import logging
import os
import random
import shutil
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from siamese.files import folders
from siamese.files.folders import purge_folders
from siamese.studio import server
from siamese.studio.server import LIFETIME, clean
from siamese.studio.storage.collections import Collections
from tests.clock import set_clock

WEEK_AGO = time.time() - LIFETIME.total_seconds() - 60


def make(folder: Path, at: float | None = None) -> Path:
    """A batch's folder, last used ``at``."""
    (folder / "done").mkdir(parents=True)
    for name in ("job.json", "done/a.png"):
        (folder / name).write_text("x")
    if at is not None:
        for path in (folder / "job.json", folder / "done", folder):
            os.utime(path, (at, at))
    return folder


@pytest.mark.slow
def test_beside_visitors_who_make_and_remove_batches(tmp_path, caplog):
    """An earlier version raised FileNotFoundError in every sixth run, which ended the thread."""
    batches, stop = tmp_path / "batches", threading.Event()
    kept, due = make(batches / "kept"), [make(batches / f"due-{i}", WEEK_AGO) for i in range(20)]

    def visit(seed: int) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            folder = batches / f"visitor-{seed}-{rng.randrange(4)}"
            shutil.rmtree(folder, ignore_errors=True)
            if rng.random() < 0.8:
                make(folder)

    visitors = [threading.Thread(target=visit, args=(seed,)) for seed in range(4)]
    for visitor in visitors:
        visitor.start()
    try:
        for _ in range(60):
            clean(tmp_path, once=True)
            due.append(make(batches / f"due-{len(due)}", WEEK_AGO))
    finally:
        stop.set()
        for visitor in visitors:
            visitor.join()
    clean(tmp_path, once=True)
    assert caplog.records == []
    assert kept.is_dir()
    assert not any(folder.exists() for folder in due)
    assert not list(batches.glob(f"{folders.REMOVED}*"))


@pytest.mark.parametrize("gone", ["child", "folder", "all"])
def test_what_vanishes_in_between_is_not_an_error(tmp_path, monkeypatch, caplog, gone):
    batch, other = make(tmp_path / "batches" / "a", WEEK_AGO), make(tmp_path / "batches" / "b", WEEK_AGO)
    iterdir, removed = Path.iterdir, []

    def listed(self):
        found = list(iterdir(self))
        if self in (batch, other) and not removed:
            removed.append(self)
            if gone == "child":
                (self / "job.json").unlink()
                os.utime(self, (WEEK_AGO, WEEK_AGO))
            else:
                shutil.rmtree(self if gone == "folder" else tmp_path / "batches")
        return iter(found)

    monkeypatch.setattr(Path, "iterdir", listed)
    clean(tmp_path, once=True)
    assert removed
    assert not batch.exists()
    assert not other.exists()
    assert caplog.records == []


def test_a_batch_that_is_used_again_at_that_moment_stays(tmp_path, monkeypatch):
    batch, set_aside = make(tmp_path / "a", WEEK_AGO), folders.set_aside

    def used(folder: Path) -> Path:
        (folder / "done" / "b.png").write_text("x")
        return set_aside(folder)

    monkeypatch.setattr(folders, "set_aside", used)
    assert purge_folders(tmp_path, LIFETIME) == 0
    assert (batch / "done" / "b.png").read_text() == "x"


def test_one_that_is_refused_does_not_keep_the_others(tmp_path, monkeypatch, caplog):
    bad, good = make(tmp_path / "a", WEEK_AGO), make(tmp_path / "b", WEEK_AGO)
    set_aside = folders.set_aside

    def refuse(folder: Path) -> Path:
        if folder == bad:
            raise PermissionError(13, "Permission denied")
        return set_aside(folder)

    monkeypatch.setattr(folders, "set_aside", refuse)
    assert purge_folders(tmp_path, LIFETIME) == 1
    assert bad.exists()
    assert not good.exists()
    assert "Permission denied" in caplog.text
    assert purge_folders(tmp_path / "none", timedelta(0)) == 0


def test_the_thread_survives_any_error(tmp_path, monkeypatch, caplog):
    rounds, calls = [], []

    def sleep(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 3:
            raise KeyboardInterrupt

    def purge(self) -> int:
        calls.append(self)
        raise ValueError("not foreseen")

    set_clock(monkeypatch, server, sleep=sleep, time=time.time)
    monkeypatch.setattr(Collections, "purge", purge)
    due = make(tmp_path / "batches" / "a", WEEK_AGO)
    with caplog.at_level(logging.ERROR), pytest.raises(KeyboardInterrupt):
        clean(tmp_path)
    assert len(calls) == 3
    assert not due.exists()
    assert [r.exc_info[0] for r in caplog.records] == [ValueError] * 3
