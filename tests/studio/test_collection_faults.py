"""Collections on a full disk, damaged, interrupted, and used by several at once: nothing else is lost."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from siamese.studio.storage import folder_lock
from siamese.studio.storage.collection_entry import (
    CollectionError,
    CollectionFullError,
    DamagedEntryError,
    NotKeptError,
    entry_id,
)
from siamese.studio.storage.collections import Collections
from tests.studio.collected import assert_same, folder_of, new_token, pair


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


def test_exporting_only_damage_says_so(kept, tmp_path):
    token = new_token()
    damage(folder_of(kept) if kept.add(token, pair(0)) else Path(), entry_id(pair(0)), "note")
    with pytest.raises(CollectionError, match="damaged"):
        kept.export(token, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


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
