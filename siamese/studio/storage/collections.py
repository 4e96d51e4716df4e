"""What each visitor has kept: synthetic pairs on the server's disk, reachable with the token in the visitor's signed cookie alone.

One folder a visitor, named by the token's SHA-256, so that a listing of the server's disk gives nobody a token. In it,
ID.png is the pair with its recipe and drawn mask (``siamese.records.provenance``) and ID.json the rest. The PNG is written last and
removed first: an entry exists where its PNG does, and a killed process leaves no half of one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image

from siamese.files.atomic import atomic_file
from siamese.files.folders import remove_rests, remove_tree, set_aside
from siamese.records.dataset_zip import LabelledPair, PairsError, check_agreement, write_pairs
from siamese.records.provenance import NotSyntheticError, Recipe, SyntheticPair, pair_png, read_png

log = logging.getLogger(__name__)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_ID = re.compile(r"[0-9a-f]{20}")
_FOLDER = re.compile(r"[0-9a-f]{64}")
_WAIT = 30.0
"""Seconds for another thread or process to finish with the same collection; each holds it for milliseconds."""


class CollectionError(RuntimeError):
    """A collection cannot do what was asked; the message says what to do."""


class TokenError(CollectionError):
    """The token is none that ``new_token`` makes."""


class CollectionFullError(CollectionError):
    """The collection holds as many pairs as it may."""


class NotKeptError(CollectionError):
    """The disk refuses: the pair was not kept."""


class NoSuchEntryError(CollectionError):
    """No pair of this id is kept here."""


class DamagedEntryError(CollectionError):
    """The files of a kept pair are damaged."""


@dataclass(frozen=True)
class Entry:
    """A kept pair without its pixels."""

    id: str
    recipe: Recipe
    agreement: float | None
    """Dice coefficient 0..1 of the mask and the lesion found in the image; None where not measured."""
    kept_at: datetime
    """In UTC."""


class Entries(list[Entry]):
    """Entries that can be read, and the ids of those that cannot."""

    def __init__(self, entries: list[Entry], damaged_ids: tuple[str, ...] = ()) -> None:
        super().__init__(entries)
        self.damaged_ids = damaged_ids

    @property
    def damaged(self) -> int:
        """How many entries cannot be read; ``Collections.remove`` takes their ids, too."""
        return len(self.damaged_ids)


@dataclass(frozen=True)
class _Note:
    """What ID.json holds."""

    agreement: float | None
    kept_at: datetime
    size: int
    sha256: str

    def to_json(self) -> bytes:
        return json.dumps(
            {
                "agreement": self.agreement,
                "kept_at": self.kept_at.isoformat(),
                "size": self.size,
                "sha256": self.sha256,
            }
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> _Note:
        values: dict[str, Any] = json.loads(data)
        kept_at = datetime.fromisoformat(values["kept_at"])
        if kept_at.tzinfo is None or type(values["size"]) is not int or not isinstance(values["sha256"], str):
            raise ValueError("a note that this studio never writes.")
        return cls(check_agreement(values["agreement"]), kept_at, values["size"], values["sha256"])


# What damaged JSON and PNG files raise.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, SyntaxError, Image.DecompressionBombError)


def new_token() -> str:
    """A token of 256 random bits; it is the only key to its collection. The studio's are its visitors' ids."""
    return secrets.token_urlsafe(32)


def entry_id(pair: SyntheticPair) -> str:
    """The same image of the same drawn mask has the same id."""
    digest = hashlib.sha256()
    for part in (pair.image, pair.drawn):
        digest.update(repr(part.shape).encode() + part.tobytes())
    return digest.hexdigest()[:20]


def _now() -> datetime:
    return datetime.now(UTC)


class Collections:
    """All visitors' collections below one folder. Safe with several threads, and with several processes on one folder.
    Every method raises TokenError where the token is malformed.

    Args:
        root: folder on the server; made when the first pair is kept.
        lifetime: how long a collection that nobody visits is kept; see ``purge``.
        largest: pairs that one collection takes.
        clock: the present time with its time zone.
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
        """Keep ``pair`` and return its id. An image that is kept already stays one entry; a new agreement replaces its old one.

        Raises:
            CollectionFullError: ``largest`` pairs are kept already.
            NotKeptError: the disk is full or refuses.
            PairsError: agreement outside 0..1.
        """
        agreement, name, data = check_agreement(agreement), entry_id(pair), pair_png(pair)
        folder = self._folder(token)
        try:
            with self._locked(folder, make=True):
                if self._agreed(folder, name, agreement):
                    return name
                # A damaged entry of this id is written anew and takes no further place.
                if name not in (kept := self._ids(folder)) and len(kept) >= self.largest:
                    raise CollectionFullError(
                        f"{self.largest} pairs are kept, which is all that a collection takes. Download them, then remove "
                        "some to keep others."
                    )
                self._write(
                    folder,
                    name,
                    data,
                    _Note(agreement, self._clock(), len(data), hashlib.sha256(data).hexdigest()),
                )
        except OSError as error:
            raise NotKeptError(
                f"The server could not store this pair ({error.strerror or error}), so nothing was kept. Download the image now "
                "if you need it, and try again later."
            ) from error
        return name

    def entries(self, token: str) -> Entries:
        """What is kept, the newest first; none for an unknown token. Reads no pixels, so damage among them shows in ``load`` only."""
        folder = self._folder(token)
        sound, damaged = [], []
        with self._locked(folder) as there:
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
            NoSuchEntryError: it is not, or no longer, kept here.
            DamagedEntryError: its files are damaged.
        """
        folder = self._folder(token)
        with self._locked(folder) as there:
            data, _ = self._read(folder, id)
            if there:
                self._touch(folder)
        return self._decode(id, data)

    def remove(self, token: str, id: str) -> None:
        """Remove one entry, damaged or not. One that is gone already, for example from another tab, is no error.

        Raises:
            NoSuchEntryError: malformed id.
        """
        folder = self._folder(token)
        file = self._file(folder, id)
        with self._locked(folder) as there:
            if there:
                file.unlink(missing_ok=True)
                file.with_suffix(".json").unlink(missing_ok=True)
                self._touch(folder)

    def delete(self, token: str) -> None:
        """Remove all that is kept under ``token``."""
        folder = self._folder(token)
        with self._locked(folder) as there:
            removed = set_aside(folder) if there else None
        if removed is not None:
            remove_tree(removed)

    def export(self, token: str, path: Path) -> Entries:
        """Write all kept pairs to the ZIP ``path`` as ``siamese.records.dataset_zip`` does, named by their ids.

        Returns:
            What the ZIP holds, the first kept first. ``damaged`` counts what could not be read and was left out.

        Raises:
            CollectionError: nothing is kept that can be read.
            OSError: ``path`` cannot be written.
        """
        folder, listed = self._folder(token), self.entries(token)
        written, damaged = [], list(listed.damaged_ids)

        def pairs() -> Iterator[LabelledPair]:
            for entry in reversed(listed):
                try:
                    # Not locked for the whole export; each file is replaced whole, and the checksum tells a mixture.
                    data, note = self._read(folder, entry.id)
                    pair = self._decode(entry.id, data)
                except NoSuchEntryError:
                    continue  # removed in the meantime
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
                else "No kept pair can be read: their files are damaged. Remove them, and make the images again."
            ) from error
        return Entries(written, tuple(damaged))

    def expires(self, token: str) -> datetime | None:
        """When ``purge`` may remove the collection (UTC), unless it is used before; None where nothing was kept."""
        return self._expiry(self._folder(token))

    def purge(self, now: datetime | None = None) -> int:
        """Remove the collections that nobody has used for ``lifetime`` before ``now``; returns how many. Every method but ``expires`` uses one.

        What the disk refuses is logged and left for the next time.
        """
        now, removed = now or self._clock(), 0
        try:
            folders = [f for f in self.root.iterdir() if _FOLDER.fullmatch(f.name)]
        except FileNotFoundError:  # nothing was ever kept
            return 0
        for folder in folders:
            try:
                if self._due(folder, now):
                    with self._locked(folder) as there:
                        if there and self._due(folder, now):  # not used while this waited for it
                            set_aside(folder)
                            removed += 1
            except FileNotFoundError:  # somebody removed it by hand
                continue
            except (
                OSError,
                CollectionError,
            ) as error:  # one that is refused or busy must not keep the others
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
            raise NoSuchEntryError("This is no id of a kept pair; choose one from the collection.")
        return folder / f"{id}.png"

    @staticmethod
    def _ids(folder: Path) -> list[str]:
        return sorted(f.stem for f in folder.glob("*.png") if _ID.fullmatch(f.stem))

    @staticmethod
    def _missing(id: str) -> NoSuchEntryError:
        return NoSuchEntryError(
            f"The pair {id} is no longer kept here; it was removed, or the collection's time was over. Reload the page."
        )

    @contextmanager
    def _locked(self, folder: Path, make: bool = False) -> Iterator[bool]:
        """Alone with ``folder`` among all threads and processes; whether it is there. Some collections share a lock, which bounds their number."""
        if not make and not folder.is_dir():
            yield False
            return
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(locks / folder.name[:2], timeout=_WAIT)
        try:
            lock.acquire()
        except Timeout as error:
            raise CollectionError(
                "The server is still busy with this collection; try again in a moment."
            ) from error
        try:
            if make:
                folder.mkdir(exist_ok=True, mode=0o700)
            yield folder.is_dir()  # it may have been removed before the lock was had
        finally:
            lock.release()

    def _touch(self, folder: Path) -> None:
        """The folder's time of change is the collection's last use; it survives a restart as the files do."""
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
        """Whether ``name`` is kept already and sound; it takes ``agreement`` where that is known."""
        try:
            _, note = self._read(folder, name)
        except (NoSuchEntryError, DamagedEntryError):
            return False
        if agreement is not None and agreement != note.agreement:
            with atomic_file(folder / f"{name}.json") as file:
                file.write(_Note(agreement, note.kept_at, note.size, note.sha256).to_json())
        self._touch(folder)
        return True

    def _write(self, folder: Path, name: str, data: bytes, note: _Note) -> None:
        try:
            with atomic_file(folder / f"{name}.json") as file:
                file.write(note.to_json())
            with atomic_file(folder / f"{name}.png") as file:
                file.write(data)
        except OSError:
            if not (folder / f"{name}.png").exists():
                (folder / f"{name}.json").unlink(missing_ok=True)
            with suppress(
                OSError
            ):  # a collection that this pair would have begun is not left empty; another stays
                folder.rmdir()
            raise
        self._touch(folder)

    def _entry(self, folder: Path, name: str) -> Entry:
        """Raises one of ``_UNREADABLE`` where it is damaged."""
        file = self._file(folder, name)
        note = _Note.from_json(file.with_suffix(".json").read_bytes())
        if file.stat().st_size != note.size:
            raise ValueError("the file is cut off.")
        with Image.open(file, formats=["PNG"]) as image:
            return Entry(
                name, Recipe.from_dict(json.loads(image.info["Recipe"])), note.agreement, note.kept_at
            )

    def _read(self, folder: Path, id: str) -> tuple[bytes, _Note]:
        file = self._file(folder, id)
        try:
            data = file.read_bytes()
        except FileNotFoundError as error:
            raise self._missing(id) from error
        try:
            note = _Note.from_json(file.with_suffix(".json").read_bytes())
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
            f"The files of the kept pair {id} are damaged on the server. Remove it, and make the image again."
        )
