"""Visitors' collections: synthetic pairs on the server's disk. The only key to a collection is the token in the visitor's signed cookie.

Each visitor has a folder, named by the token's SHA-256, so that a listing of the disk shows nobody's token. ID.png in it is the pair with
its recipe and drawn mask (``siamese.records.provenance``), and ID.json holds the rest. The PNG is written last and removed first: an entry
exists if its PNG exists, so that a killed process never leaves half an entry.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from PIL import Image

from siamese.files.atomic import atomic_file
from siamese.files.folders import remove_rests, remove_tree, set_aside
from siamese.records.dataset_zip import LabelledPair, PairsError, check_agreement, write_pairs
from siamese.records.provenance import NotSyntheticError, Recipe, SyntheticPair, pair_png, read_png
from siamese.studio.storage.collection_entry import (
    CollectionError,
    CollectionFullError,
    DamagedEntryError,
    Entries,
    Entry,
    EntryNote,
    NoSuchEntryError,
    NotKeptError,
    TokenError,
    entry_id,
)
from siamese.studio.storage.folder_lock import locked

log = logging.getLogger(__name__)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_ID = re.compile(r"[0-9a-f]{20}")
_FOLDER = re.compile(r"[0-9a-f]{64}")


# What damaged JSON and PNG files raise.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, SyntaxError, Image.DecompressionBombError)


def _now() -> datetime:
    return datetime.now(UTC)


class Collections:
    """All visitors' collections below one folder. Safe for several threads, and for several processes with the same folder.
    Every method with a token raises TokenError if it is malformed.

    Args:
        root: folder on the server; it is made with the first pair.
        lifetime: how long a collection is kept after its last visit; see ``purge``.
        largest: maximum number of pairs in one collection.
        clock: returns the current time with its time zone.
    """

    def __init__(
        self,
        root: Path,
        lifetime: timedelta = timedelta(days=7),
        largest: int = 200,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self.root, self.lifetime, self.largest, self._clock = Path(root), lifetime, largest, clock

    def add(self, token: str, pair: SyntheticPair, agreement: float | None = None) -> str:
        """Keep ``pair`` and return its id. An image that is kept already stays one entry, with the new agreement if there is one.

        Raises:
            CollectionFullError: ``largest`` pairs are kept already.
            NotKeptError: the disk is full or fails.
            PairsError: agreement outside 0..1.
        """
        agreement, name, data = check_agreement(agreement), entry_id(pair), pair_png(pair)
        folder = self._folder(token)
        try:
            with locked(folder, make=True):
                if self._agreed(folder, name, agreement):
                    return name
                # A damaged entry with this id is replaced, so it does not count twice.
                if name not in (kept := self._ids(folder)) and len(kept) >= self.largest:
                    raise CollectionFullError(
                        f"Your collection holds {self.largest} pairs, which is the maximum. Download them, then remove "
                        "some of them to keep others."
                    )
                note = EntryNote(
                    agreement=agreement,
                    kept_at=self._clock(),
                    size=len(data),
                    sha256=hashlib.sha256(data).hexdigest(),
                )
                self._write(folder, name, data, note)
        except OSError as error:
            raise NotKeptError(
                f"The server could not store this pair ({error.strerror or error}), so nothing was kept. Download the image now "
                "if you need it, and try again later."
            ) from error
        return name

    def entries(self, token: str) -> Entries:
        """The kept pairs, the newest first; empty for an unknown token. This reads no pixels, so only ``load`` finds damage in them."""
        folder = self._folder(token)
        sound, damaged = [], []
        with locked(folder) as there:
            for name in self._ids(folder) if there else ():
                try:
                    sound.append(self._entry(folder, name))
                except _UNREADABLE:
                    damaged.append(name)
            if there:
                self._touch(folder)
        return Entries(sorted(sound, key=lambda e: (e.kept_at, e.id), reverse=True), tuple(damaged))

    def load(self, token: str, id: str) -> SyntheticPair:
        """The pair of an entry.

        Raises:
            NoSuchEntryError: the collection does not hold it (any more).
            DamagedEntryError: its files are damaged.
        """
        folder = self._folder(token)
        with locked(folder) as there:
            data, _ = self._read(folder, id)
            if there:
                self._touch(folder)
        return self._decode(id, data)

    def remove(self, token: str, id: str) -> None:
        """Remove one entry, damaged or not. It is not an error if the entry is gone, for example because another tab removed it.

        Raises:
            NoSuchEntryError: malformed id.
        """
        folder = self._folder(token)
        file = self._file(folder, id)
        with locked(folder) as there:
            if there:
                file.unlink(missing_ok=True)
                file.with_suffix(".json").unlink(missing_ok=True)
                self._touch(folder)

    def delete(self, token: str) -> None:
        """Remove the whole collection."""
        folder = self._folder(token)
        with locked(folder) as there:
            removed = set_aside(folder) if there else None
        if removed is not None:
            remove_tree(removed)

    def export(self, token: str, path: Path) -> Entries:
        """Write all kept pairs to the ZIP ``path`` as ``siamese.records.dataset_zip`` does, named by their ids.

        Returns:
            The entries in the ZIP, the oldest first. ``damaged`` counts those that the ZIP lacks because they cannot be read.

        Raises:
            CollectionError: no entry can be read.
            OSError: ``path`` cannot be written.
        """
        folder, listed = self._folder(token), self.entries(token)
        written, damaged = [], list(listed.damaged_ids)

        def pairs() -> Iterator[LabelledPair]:
            for entry in reversed(listed):
                try:
                    # Not locked during the whole export: each file is replaced as a whole, and the checksum detects a mixture.
                    data, note = self._read(folder, entry.id)
                    pair = self._decode(entry.id, data)
                except NoSuchEntryError:
                    continue  # removed during the export
                except DamagedEntryError:
                    damaged.append(entry.id)
                    continue
                written.append(entry)
                yield LabelledPair(entry.id, pair, note.agreement, data)

        try:
            write_pairs(path, pairs())
        except PairsError as error:  # there were none
            raise CollectionError(
                "Nothing is kept yet; keep a pair first."
                if not damaged
                else "No kept pair can be read: their files are damaged. Remove them, and generate the images again."
            ) from error
        return Entries(written, tuple(damaged))

    def expires(self, token: str) -> datetime | None:
        """When ``purge`` may remove the collection (UTC) if nobody uses it before; None if there is no collection."""
        return self._expiry(self._folder(token))

    def purge(self, now: datetime | None = None) -> int:
        """Remove the collections that nobody has used for ``lifetime`` before ``now``; returns how many. All methods but ``expires`` count as use.

        Failures of the disk are logged; the next call tries again.
        """
        now, removed = now or self._clock(), 0
        try:
            folders = [f for f in self.root.iterdir() if _FOLDER.fullmatch(f.name)]
        except FileNotFoundError:  # nothing has been kept yet
            return 0
        for folder in folders:
            try:
                if self._due(folder, now):
                    with locked(folder) as there:
                        if there and self._due(folder, now):  # nobody used it while this waited for the lock
                            set_aside(folder)
                            removed += 1
            except FileNotFoundError:  # somebody removed it by hand
                continue
            except (
                OSError,
                CollectionError,
            ) as error:  # one that fails or is busy must not keep the others
                log.warning(
                    "The collection %s could not be removed (%s); this is tried again.", folder, error
                )
        remove_rests(self.root)
        return removed

    def _folder(self, token: str) -> Path:
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise TokenError(
                "This browser's key to its collection is damaged. Reload the page to begin a new collection."
            )
        return self.root / hashlib.sha256(token.encode("ascii")).hexdigest()

    def _file(self, folder: Path, id: str) -> Path:
        if not isinstance(id, str) or not _ID.fullmatch(id):
            raise NoSuchEntryError("This is not the id of a kept pair; choose one from the collection.")
        return folder / f"{id}.png"

    @staticmethod
    def _ids(folder: Path) -> list[str]:
        return sorted(f.stem for f in folder.glob("*.png") if _ID.fullmatch(f.stem))

    @staticmethod
    def _missing(id: str) -> NoSuchEntryError:
        return NoSuchEntryError(
            f"The pair {id} is no longer in your collection: it was removed, or the collection has expired. Reload the page."
        )

    def _touch(self, folder: Path) -> None:
        """Note a use of the collection: the folder's modification time is its last use, which survives a restart."""
        at = self._clock().timestamp()
        os.utime(folder, (at, at))

    def _expiry(self, folder: Path) -> datetime | None:
        try:
            return datetime.fromtimestamp(folder.stat().st_mtime, UTC) + self.lifetime
        except FileNotFoundError:
            return None

    def _due(self, folder: Path, now: datetime) -> bool:
        expiry = self._expiry(folder)
        return expiry is not None and expiry <= now

    def _agreed(self, folder: Path, name: str, agreement: float | None) -> bool:
        """Whether ``name`` is kept already and intact; if so, it gets ``agreement`` if that is known."""
        try:
            _, note = self._read(folder, name)
        except (NoSuchEntryError, DamagedEntryError):
            return False
        if agreement is not None and agreement != note.agreement:
            with atomic_file(folder / f"{name}.json") as file:
                file.write(note.model_copy(update={"agreement": agreement}).model_dump_json().encode())
        self._touch(folder)
        return True

    def _write(self, folder: Path, name: str, data: bytes, note: EntryNote) -> None:
        try:
            with atomic_file(folder / f"{name}.json") as file:
                file.write(note.model_dump_json().encode())
            with atomic_file(folder / f"{name}.png") as file:
                file.write(data)
        except OSError:
            if not (folder / f"{name}.png").exists():
                (folder / f"{name}.json").unlink(missing_ok=True)
            with suppress(OSError):  # only an empty folder is removed, which this pair would have begun
                folder.rmdir()
            raise
        self._touch(folder)

    def _entry(self, folder: Path, name: str) -> Entry:
        """Raises one of ``_UNREADABLE`` if it is damaged."""
        file = self._file(folder, name)
        note = EntryNote.model_validate_json(file.with_suffix(".json").read_bytes())
        if file.stat().st_size != note.size:
            raise ValueError("the file is cut off.")
        with Image.open(file, formats=["PNG"]) as image:
            return Entry(
                name, Recipe.from_dict(json.loads(image.info["Recipe"])), note.agreement, note.kept_at
            )

    def _read(self, folder: Path, id: str) -> tuple[bytes, EntryNote]:
        file = self._file(folder, id)
        try:
            data = file.read_bytes()
        except FileNotFoundError as error:
            raise self._missing(id) from error
        try:
            note = EntryNote.model_validate_json(file.with_suffix(".json").read_bytes())
        except _UNREADABLE as error:
            raise self._damaged(id) from error
        if hashlib.sha256(data).hexdigest() != note.sha256:
            raise self._damaged(id)
        return data, note

    @classmethod
    def _decode(cls, id: str, data: bytes) -> SyntheticPair:
        try:
            return read_png(data)
        except NotSyntheticError as error:
            raise cls._damaged(id) from error

    @staticmethod
    def _damaged(id: str) -> DamagedEntryError:
        return DamagedEntryError(
            f"The files of the kept pair {id} are damaged on the server. Remove the pair, and generate the image again."
        )
