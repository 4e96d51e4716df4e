"""One kept pair: what its two files hold, and what is wrong with a collection or an entry that cannot be used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from siamese.records.provenance import Recipe, SyntheticPair


class CollectionError(RuntimeError):
    """A collection cannot do what was requested; the message says what to do."""


class TokenError(CollectionError):
    """The token is malformed."""


class CollectionFullError(CollectionError):
    """The collection holds its maximum number of pairs."""


class NotKeptError(CollectionError):
    """The disk is full or fails: the pair was not kept."""


class NoSuchEntryError(CollectionError):
    """The collection has no pair with this id."""


class DamagedEntryError(CollectionError):
    """The files of a kept pair are damaged."""


@dataclass(frozen=True)
class Entry:
    """A kept pair without its pixels."""

    id: str
    recipe: Recipe
    agreement: float | None
    """Dice coefficient 0..1 of the mask and the lesion found in the image; None if it was not measured."""
    kept_at: datetime
    """In UTC."""


class Entries(list[Entry]):
    """Entries that can be read, and the ids of those that cannot."""

    def __init__(self, entries: list[Entry], damaged_ids: tuple[str, ...] = ()) -> None:
        super().__init__(entries)
        self.damaged_ids = damaged_ids

    @property
    def damaged(self) -> int:
        """Number of entries that cannot be read; ``Collections.remove`` takes their ids, too."""
        return len(self.damaged_ids)


class EntryNote(BaseModel):
    """What ID.json holds. Reading raises pydantic.ValidationError, a ValueError, if the file is damaged."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    agreement: float | None = Field(strict=True, ge=0, le=1, allow_inf_nan=False)
    kept_at: AwareDatetime
    size: int = Field(strict=True, ge=0)
    """Bytes of the PNG."""
    sha256: str = Field(strict=True)
    """Of the PNG, in hexadecimal digits."""


def entry_id(pair: SyntheticPair) -> str:
    """Id of a pair: 20 hexadecimal digits, the same for the same image of the same drawn mask."""
    digest = hashlib.sha256()
    for part in (pair.image, pair.drawn):
        digest.update(repr(part.shape).encode() + part.tobytes())
    return digest.hexdigest()[:20]
