"""Visitors' collections: keeping, finding again, limits, secrecy, damage, full disks, and several processes at once."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import secrets
import subprocess
import sys
import threading
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from siamese.records.dataset_zip import PairsError
from siamese.records.provenance import Recipe, SyntheticPair, pair_png
from siamese.records.sampling_settings import SamplingSettings
from siamese.studio.storage import folder_lock
from siamese.studio.storage.collection_entry import (
    CollectionError,
    CollectionFullError,
    DamagedEntryError,
    NoSuchEntryError,
    NotKeptError,
    TokenError,
    entry_id,
)
from siamese.studio.storage.collections import Collections
from tests.phantoms import phantom

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def new_token() -> str:
    """As the cookie holds."""
    return secrets.token_urlsafe(32)


def pair(seed: int, prompt: str = "a polyp") -> SyntheticPair:
    image, mask = phantom(seed, 32, 32)
    return SyntheticPair(
        image, mask, mask, Recipe(prompt, seed, SamplingSettings(20, 2.0, "dpm++"), "phantom")
    )


class Clock:
    """A clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(tmp_path: Path, clock: Clock) -> Collections:
    return Collections(tmp_path / "kept", clock=clock)


def folder_of(kept: Collections) -> Path:
    (folder,) = [f for f in kept.root.iterdir() if len(f.name) == 64]
    return folder


def assert_same(a: SyntheticPair, b: SyntheticPair) -> None:
    assert a.recipe == b.recipe
    for x, y in ((a.image, b.image), (a.mask, b.mask), (a.drawn, b.drawn)):
        np.testing.assert_array_equal(x, y)


def test_keeps_lists_and_loads(kept):
    token = new_token()
    assert kept.entries(token) == []
    assert kept.expires(token) is None
    ids = [kept.add(token, pair(i), agreement) for i, agreement in enumerate((0.5, None, 1.0))]
    entries = kept.entries(token)
    assert [e.id for e in entries] == ids[::-1]
    assert [e.agreement for e in entries] == [1.0, None, 0.5]
    assert entries.damaged == 0
    assert [e.recipe for e in entries] == [pair(i).recipe for i in (2, 1, 0)]
    assert all(a.kept_at > b.kept_at > START for a, b in itertools.pairwise(entries))
    for i, id in enumerate(ids):
        assert_same(kept.load(token, id), pair(i))


def test_the_same_image_is_one_entry(kept):
    token = new_token()
    first = kept.add(token, pair(0))
    at = kept.entries(token)[0].kept_at
    assert kept.add(token, pair(0), 0.25) == first
    assert kept.add(token, pair(0)) == first
    (entry,) = kept.entries(token)
    assert entry.agreement == 0.25
    assert entry.kept_at == at
    other_mask = SyntheticPair(pair(0).image, pair(1).mask, pair(1).drawn, pair(0).recipe)
    assert kept.add(token, other_mask) != first
    assert len(kept.entries(token)) == 2


def test_survives_a_restart(kept):
    token = new_token()
    id = kept.add(token, pair(0), 0.5)
    again = Collections(kept.root)
    assert again.entries(token)[0].id == id
    assert again.entries(token)[0].agreement == 0.5
    assert_same(again.load(token, id), pair(0))


def test_two_tokens_never_see_each_other(kept, tmp_path):
    ours, theirs = new_token(), new_token()
    id, other = kept.add(ours, pair(0)), kept.add(theirs, pair(1))
    shared = kept.add(ours, pair(2))
    assert kept.add(theirs, pair(2)) == shared
    assert [e.id for e in kept.entries(ours)] == [shared, id]
    assert [e.id for e in kept.entries(theirs)] == [shared, other]
    with pytest.raises(NoSuchEntryError, match="no longer in your collection"):
        kept.load(theirs, id)
    kept.remove(theirs, id)
    kept.export(theirs, tmp_path / "theirs.zip")
    with zipfile.ZipFile(tmp_path / "theirs.zip") as archive:
        assert f"images/{id}.png" not in archive.namelist()
        assert f"images/{other}.png" in archive.namelist()
    kept.delete(theirs)
    assert [e.id for e in kept.entries(ours)] == [shared, id]
    assert kept.entries(theirs) == []
    assert_same(kept.load(ours, shared), pair(2))


def test_the_disk_does_not_tell_the_token(kept):
    token = new_token()
    kept.add(token, pair(0))
    assert len(token) >= 43
    for path in kept.root.rglob("*"):
        assert token not in str(path)
        assert path.is_dir() or token.encode() not in path.read_bytes()
    if os.name == "posix":
        assert folder_of(kept).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "token",
    ["", "a" * 42, "a" * 44, "../" + "a" * 40, "a" * 42 + "/", "a" * 42 + "\n", "ä" * 43, None, 3, b"a" * 43],
)
def test_malformed_tokens_reach_no_path(kept, tmp_path, token):
    for call in (
        lambda: kept.add(token, pair(0)),
        lambda: kept.entries(token),
        lambda: kept.load(token, "0" * 20),
        lambda: kept.delete(token),
        lambda: kept.remove(token, "0" * 20),
        lambda: kept.export(token, tmp_path / "a.zip"),
        lambda: kept.expires(token),
    ):
        with pytest.raises(TokenError, match="Reload"):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("id", ["", "../" + "0" * 17, "0" * 19, "G" * 20, None])
def test_malformed_ids_reach_no_path(kept, id):
    token = new_token()
    kept.add(token, pair(0))
    for call in (kept.load, kept.remove):
        with pytest.raises(NoSuchEntryError, match="choose one"):
            call(token, id)


def test_removes_one_and_all(kept):
    token = new_token()
    a, b = kept.add(token, pair(0)), kept.add(token, pair(1))
    kept.remove(token, a)
    kept.remove(token, a)  # from another tab
    assert [e.id for e in kept.entries(token)] == [b]
    with pytest.raises(NoSuchEntryError):
        kept.load(token, a)
    kept.delete(token)
    kept.delete(token)
    assert kept.entries(token) == []
    assert kept.expires(token) is None
    assert [p.name for p in kept.root.iterdir()] == [".locks"]
    with pytest.raises(NoSuchEntryError):
        kept.load(token, b)


def test_a_full_collection_says_what_to_do(tmp_path):
    kept, token = Collections(tmp_path, largest=2), new_token()
    ids = [kept.add(token, pair(i)) for i in range(2)]
    with pytest.raises(CollectionFullError, match=r"holds 2 pairs.*remove"):
        kept.add(token, pair(2))
    assert kept.add(token, pair(0), 0.5) == ids[0]  # already kept: not one more
    kept.add(new_token(), pair(2))
    kept.remove(token, ids[0])
    kept.add(token, pair(2))
    assert len(kept.entries(token)) == 2


def test_refuses_an_impossible_agreement(kept):
    with pytest.raises(PairsError, match=r"0..1"):
        kept.add(new_token(), pair(0), 2.0)
    assert not kept.root.exists()


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_full_disk_keeps_nothing(kept, monkeypatch, fails_at):
    token, full = new_token(), [0]
    real = os.replace

    def replace(*paths):
        full[0] += 1
        if full[0] == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*paths)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(NotKeptError, match=r"No space left on device.*nothing was kept"):
        kept.add(token, pair(0))
    assert kept.entries(token) == []
    assert kept.expires(token) is None
    assert [p.name for p in kept.root.iterdir()] == [".locks"]
    id = kept.add(token, pair(0))
    full[0] = fails_at - 3
    kept.add(token, pair(1), 0.5)
    full[0] = fails_at - 1
    with pytest.raises(NotKeptError):
        kept.add(token, pair(2))
    assert id in [e.id for e in kept.entries(token)]
    assert len(kept.entries(token)) == 2
    assert kept.entries(token).damaged == 0


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotKeptError, match="nothing was kept"):
        Collections(tmp_path / "file").add(new_token(), pair(0))


def damage(folder: Path, id: str, kind: str) -> None:
    png, note = folder / f"{id}.png", folder / f"{id}.json"
    values = json.loads(note.read_text())
    if kind == "cut":
        png.write_bytes(png.read_bytes()[:-100])
    elif kind == "empty":
        png.write_bytes(b"")
    elif kind == "no note":
        note.unlink()
    elif kind == "note":
        note.write_text("{")
    elif kind == "note of other values":
        note.write_text(json.dumps(values | {"agreement": "high"}))
    elif kind == "time without zone":
        note.write_text(json.dumps(values | {"kept_at": "2026-05-01T12:00:00"}))
    else:  # another PNG, its note fitting
        data = b"\x89PNG\r\n\x1a\n" + bytes(values["size"] - 8)
        png.write_bytes(data)


@pytest.mark.parametrize(
    "kind", ["cut", "empty", "no note", "note", "note of other values", "time without zone", "no PNG"]
)
def test_damage_is_counted_and_breaks_nothing_else(kept, tmp_path, kind):
    token = new_token()
    bad, good = kept.add(token, pair(0)), kept.add(token, pair(1))
    damage(folder_of(kept), bad, kind)
    entries = kept.entries(token)
    assert [e.id for e in entries] == [good]
    assert entries.damaged == 1
    assert entries.damaged_ids == (bad,)
    with pytest.raises(DamagedEntryError, match="Remove the pair"):
        kept.load(token, bad)
    assert_same(kept.load(token, good), pair(1))
    exported = kept.export(token, tmp_path / "a.zip")
    assert [e.id for e in exported] == [good]
    assert exported.damaged == 1
    assert kept.add(token, pair(0)) == bad
    assert kept.entries(token).damaged == 0
    damage(folder_of(kept), bad, kind)
    kept.remove(token, bad)
    assert kept.entries(token).damaged == 0
    assert len(kept.entries(token)) == 1


def test_damage_among_the_pixels_shows_when_loading(kept, tmp_path):
    token = new_token()
    bad, good = kept.add(token, pair(0)), kept.add(token, pair(1))
    file = folder_of(kept) / f"{bad}.png"
    data = bytearray(file.read_bytes())
    data[-40] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedEntryError):
        kept.load(token, bad)
    exported = kept.export(token, tmp_path / "a.zip")
    assert [e.id for e in exported] == [good]
    assert exported.damaged_ids == (bad,)


def test_a_file_that_another_version_wrote_is_damage(kept):
    token = new_token()
    id = kept.add(token, pair(0))
    png, data = folder_of(kept) / f"{id}.png", b"another format"
    values = json.loads(png.with_suffix(".json").read_text()) | {
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    png.write_bytes(data)
    png.with_suffix(".json").write_text(json.dumps(values))
    assert kept.entries(token).damaged_ids == (id,)
    with pytest.raises(DamagedEntryError):
        kept.load(token, id)


def test_what_is_removed_during_an_export_is_left_out(kept, tmp_path, monkeypatch):
    token = new_token()
    gone, stays = kept.add(token, pair(0)), kept.add(token, pair(1))
    listed = kept.entries(token)
    kept.remove(token, gone)
    monkeypatch.setattr(kept, "entries", lambda _: listed)
    exported = kept.export(token, tmp_path / "a.zip")
    assert [e.id for e in exported] == [stays]
    assert exported.damaged == 0


def test_what_a_killed_process_leaves_is_not_an_entry(kept):
    token = new_token()
    kept.add(token, pair(0))
    folder = folder_of(kept)
    (folder / f"{'0' * 20}.json").write_text("{}")
    (folder / ".0011.part").write_bytes(b"half")
    (folder / "notes.png").write_bytes(b"not ours")
    assert len(kept.entries(token)) == 1
    assert kept.entries(token).damaged == 0


def test_lists_without_decoding_pixels(kept, monkeypatch):
    token = new_token()
    kept.add(token, pair(0))
    monkeypatch.setattr(
        "PIL.PngImagePlugin.PngImageFile.load", lambda self: pytest.fail("pixels were decoded")
    )
    assert kept.entries(token)[0].recipe == pair(0).recipe


def test_exports_in_the_order_of_keeping(kept, tmp_path):
    token = new_token()
    with pytest.raises(CollectionError, match="Nothing is kept yet"):
        kept.export(token, tmp_path / "a.zip")
    ids = [kept.add(token, pair(i), (0.5, None)[i % 2]) for i in range(3)]
    assert [e.id for e in kept.export(token, tmp_path / "a.zip")] == ids
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        rows = [json.loads(line) for line in archive.read("manifest.jsonl").decode().splitlines()]
        assert [r["id"] for r in rows] == ids
        assert [r["mask_agreement"] for r in rows] == [0.5, None, 0.5]
        assert archive.read(f"images/{ids[1]}.png") == pair_png(pair(1))  # the very file that was kept
    kept.export(token, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_exporting_only_damage_says_so(kept, tmp_path):
    token = new_token()
    damage(folder_of(kept) if kept.add(token, pair(0)) else Path(), entry_id(pair(0)), "note")
    with pytest.raises(CollectionError, match="damaged"):
        kept.export(token, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_purges_what_nobody_visits(kept, clock):
    old, used = new_token(), new_token()
    id, _ = kept.add(used, pair(0)), kept.add(old, pair(1))
    assert (
        timedelta(0) <= START + 7 * DAY + timedelta(seconds=10) - kept.expires(old) <= timedelta(seconds=10)
    )
    assert kept.purge(START + 6 * DAY) == 0
    clock.time = START + 5 * DAY
    kept.load(used, id)
    assert kept.purge(START + 8 * DAY) == 1
    assert kept.entries(old) == []
    assert [e.id for e in kept.entries(used)] == [id]
    assert kept.purge(START + 20 * DAY) == 1
    assert kept.purge(START + 20 * DAY) == 0
    assert [p.name for p in kept.root.iterdir()] == [".locks"]


@pytest.mark.parametrize("use", ["add", "add again", "entries", "load", "remove", "export"])
def test_every_use_prolongs(kept, clock, tmp_path, use):
    token = new_token()
    id = kept.add(token, pair(0))
    before = kept.expires(token)
    clock.time += 3 * DAY
    {
        "add": lambda: kept.add(token, pair(1)),
        "add again": lambda: kept.add(token, pair(0)),
        "entries": lambda: kept.entries(token),
        "load": lambda: kept.load(token, id),
        "remove": lambda: kept.remove(token, id),
        "export": lambda: kept.export(token, tmp_path / "a.zip"),
    }[use]()
    assert kept.expires(token) - before >= 3 * DAY


def test_purge_finishes_what_was_interrupted(kept):
    assert kept.purge() == 0  # nothing was ever kept
    kept.add(new_token(), pair(0))
    left = kept.root / ".removed-0123"
    left.mkdir()
    (left / "x.png").write_bytes(b"")
    assert kept.purge() == 0
    assert not left.exists()
    assert folder_of(kept).exists()


def test_a_collection_that_stays_busy_is_an_error(kept, monkeypatch):
    token = new_token()
    kept.add(token, pair(0))
    monkeypatch.setattr(folder_lock, "WAIT_SECONDS", 0.05)
    inside, done = threading.Event(), threading.Event()

    def hold():
        with folder_lock.locked(folder_of(kept)):
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(10)
    with pytest.raises(CollectionError, match="busy"):
        kept.entries(token)
    done.set()
    thread.join()
    assert len(kept.entries(token)) == 1


def test_threads_never_pass_the_limit(tmp_path):
    kept, token, full, errors = Collections(tmp_path, largest=10), new_token(), [], []

    def work(start: int) -> None:
        try:
            for i in range(start, start + 6):
                try:
                    kept.add(token, pair(i))
                except CollectionFullError:
                    full.append(i)
                kept.entries(token)
        except Exception as error:  # a thread's error would be lost
            errors.append(error)

    threads = [threading.Thread(target=work, args=(6 * t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(kept.entries(token)) == 10
    assert len(full) == 14
    assert kept.entries(token).damaged == 0


_CHILD = """
import sys
from pathlib import Path
from siamese.studio.storage.collection_entry import CollectionFullError
from siamese.studio.storage.collections import Collections
from tests.studio.test_collections import pair
kept, full = Collections(Path(sys.argv[1]), largest=12), 0
for i in range(int(sys.argv[3]), int(sys.argv[3]) + 10):
    try:
        kept.add(sys.argv[2], pair(i))
    except CollectionFullError:
        full += 1
    assert kept.entries(sys.argv[2]).damaged == 0
print(full)
"""


@pytest.mark.slow
def test_two_processes_share_a_collection(tmp_path):
    token = new_token()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(tmp_path), token, str(start)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for start in (0, 8)
    ]  # two images are common to both
    refused = sum(int(child.communicate(timeout=60)[0]) for child in children)
    entries = Collections(tmp_path).entries(token)
    assert all(child.returncode == 0 for child in children)
    assert len(entries) == 12
    assert entries.damaged == 0
    assert refused >= 6
    for entry in entries:
        assert_same(Collections(tmp_path).load(token, entry.id), pair(entry.recipe.seed))
