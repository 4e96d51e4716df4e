"""Visitors' collections: keeping, finding again, limits, secrecy, damage, full disks, and several processes at once."""

from __future__ import annotations

import itertools
import json
import os
import zipfile
from datetime import timedelta

import pytest

from siamese.records.dataset_zip import PairsError
from siamese.records.provenance import SyntheticPair, pair_png
from siamese.studio.storage.collection_entry import (
    CollectionError,
    CollectionFullError,
    NoSuchEntryError,
    TokenError,
)
from siamese.studio.storage.collections import Collections
from tests.studio.collected import DAY, START, assert_same, folder_of, new_token, pair


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
