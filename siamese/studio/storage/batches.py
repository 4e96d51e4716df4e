"""Many masks at once: masks from an uploaded ZIP, and a job on disk that samples an image of each and can be interrupted anywhere.

Nothing in the ZIP is trusted and nothing of it is unpacked to disk: entries are read into memory, within limits.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from siamese.files.archives import (
    ArchivedFile,
    ArchivedFileError,
    ArchiveError,
    ArchiveLimits,
    BoundedArchive,
    open_archive,
)
from siamese.files.atomic import atomic_file
from siamese.files.decoding import MAX_FILE_BYTES, MAX_SIDE, VISITOR, DecodingError
from siamese.files.listing import (
    IMAGE_SUFFIXES,
    UNKNOWN_KIND,
    PassedOver,
    beside_masks,
    key_of,
    reason_to_pass_over,
    report,
)
from siamese.files.names import safe_name
from siamese.masks.core import MaskError, binarise, check_mask, fit_mask
from siamese.masks.reading import decode_mask
from siamese.records.dataset_zip import (
    LabelledPair,
    PairsError,
    check_agreement,
    check_name,
    write_pairs,
)
from siamese.records.provenance import NotSyntheticError, SyntheticPair, mask_png, pair_png, read_png

Sample = Callable[
    [list[np.ndarray], list[int]], list[SyntheticPair] | Generator[Any, None, list[SyntheticPair]]
]
"""See ``BatchJob.run``."""

MAX_MASKS = 200
MAX_ZIP_BYTES = 20_000_000
"""Bytes of the uploaded file."""
MAX_TOTAL_BYTES = 400_000_000
"""Bytes of all files in the ZIP, unpacked; and pixels of all masks, which are a byte each in memory."""
MAX_ENTRIES = 5_000
"""Files and folders in the ZIP, with those that are passed over."""


class BatchError(ValueError):
    """Masks or a job that cannot be used; the message lists every fault and says what to do."""

    def __init__(self, title: str, faults: Sequence[str] = ()) -> None:
        super().__init__("\n".join([title + (":" if faults else ""), *(f"  {fault}" for fault in faults)]))
        self.faults = tuple(faults)


@dataclass(frozen=True)
class NamedMask:
    """A mask and the name of the pair that it shall become."""

    name: str
    """The file's stem as ``siamese.files.names.safe_name`` writes it."""
    mask: np.ndarray
    """uint8 [H, W] of 0 / 255."""


class NamedMasks(list[NamedMask]):
    """Masks of a ZIP, and what else it holds."""

    def __init__(self, masks: Iterable[NamedMask], passed_over: Iterable[PassedOver] = ()) -> None:
        super().__init__(masks)
        self.passed_over = tuple(passed_over)


def read_mask_zip(path: Path) -> NamedMasks:
    """The masks of a ZIP in any of its folders, sorted by name; see ``siamese.files.listing`` for what is a file of a mask.

    Of a data set (``masks/`` beside ``images/``, such as the studio's own exports), the files in ``masks/`` are read.

    ``siamese.masks.reading`` says what a mask is.

    Raises:
        BatchError: not a ZIP, above a limit, or files that cannot be used; it lists all of those by name.
    """
    path = Path(path)
    if path.stat().st_size > MAX_ZIP_BYTES:
        raise BatchError(
            f"the ZIP has {path.stat().st_size / 1e6:.0f} MB; at most {MAX_ZIP_BYTES / 1e6:.0f} MB can be read. Split it."
        )
    limits = ArchiveLimits(entries=MAX_ENTRIES, file_bytes=MAX_FILE_BYTES, total_bytes=MAX_TOTAL_BYTES)
    try:
        with open_archive(path, limits) as archive:
            return _read_archive(archive)
    except ArchiveError as error:
        raise BatchError(str(error)) from error


def _read_archive(archive: BoundedArchive) -> NamedMasks:
    files, passed_over, faults = _chosen_files(archive)
    if not files and not faults:
        raise BatchError(f"the ZIP holds no masks; put {', '.join(IMAGE_SUFFIXES)} files into it.")
    if len(files) > MAX_MASKS:
        raise BatchError(
            f"the ZIP holds {len(files)} files; at most {MAX_MASKS} masks are possible at once. Split it."
        )
    masks: dict[str, NamedMask] = {}
    named: dict[str, str] = {}
    pixels = 0
    for file in files:
        name = safe_name(key_of(file.name))
        try:
            if file.fault is None and name.casefold() in named:
                raise BatchError(f"has the same name as {named[name.casefold()]}; rename one of them")
            mask = decode_mask(archive.read(file), VISITOR)
        except ArchiveError as error:
            faults.append(f"{file.shown}: {error}")
            break
        except (BatchError, ArchivedFileError, DecodingError) as error:
            faults.append(f"{file.shown}: {error}")
            continue
        finally:
            if file.fault is None:
                named.setdefault(name.casefold(), file.shown)
        masks[name] = NamedMask(name, mask)
        pixels += mask.size
        if pixels > MAX_TOTAL_BYTES:
            faults.append(
                f"{file.shown}: the masks up to this one have more than {MAX_TOTAL_BYTES / 1e6:.0f} million pixels; split the ZIP"
            )
            break
    if faults:
        raise BatchError("the ZIP cannot be used; repair or remove these files and pack it again", faults)
    return NamedMasks((masks[name] for name in sorted(masks)), passed_over)


def _chosen_files(archive: BoundedArchive) -> tuple[list[ArchivedFile], list[PassedOver], list[str]]:
    """Files that should be masks, what was passed over, and the faults of files of an unknown kind: those could be masks."""
    files, passed_over, faults = [], list(archive.passed_over), []
    beside = beside_masks(file.parts for file in archive.files)
    for file in archive.files:
        reason = beside.get(file.parts) or reason_to_pass_over(file.parts)
        if reason is None:
            files.append(file)
        elif reason == UNKNOWN_KIND:
            faults.append(f"{file.shown}: is {reason}")
        else:
            passed_over.append(PassedOver(file.shown, reason))
    return files, passed_over, faults


def item_seed(seed: int, index: int) -> int:
    """Seed of item ``index`` of a job in 0..2^32 - 1: neighbouring items and jobs share none."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint32)[0])


@dataclass(frozen=True)
class BatchItem:
    """One image to make."""

    name: str
    index: int
    seed: int
    mask_file: Path

    @property
    def mask(self) -> np.ndarray:
        """uint8 [H, W] of 0 / 255, read from disk at each use."""
        with Image.open(self.mask_file, formats=["PNG"]) as file:
            return binarise(np.asarray(file.convert("L")))


@dataclass(frozen=True)
class BatchProgress:
    """What a page shows of a running job."""

    done: int
    total: int
    seconds_left: float
    """Estimated from what this run has sampled so far."""


@dataclass(frozen=True)
class BatchSettings:
    """Settings of all images of a job."""

    prompt: str
    seed: int
    steps: int
    guidance: float
    scheduler: str
    model: str | None = None
    """Where given, images of another model are refused, so that a job continued after a change of models is not mixed."""

    def __post_init__(self) -> None:
        """Raises BatchError where a value is out of range or of another type."""
        texts = (self.prompt, self.scheduler, self.model or "")
        if not all(isinstance(t, str) and len(t) < 1000 for t in texts):
            raise BatchError("prompt, scheduler and model are texts of less than 1000 characters.")
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise BatchError(f"seed is {self.seed!r}; it must be a whole number of 0 or more.")
        if type(self.steps) is not int or self.steps < 1:
            raise BatchError(f"steps is {self.steps!r}; it must be a whole number of 1 or more.")
        if type(self.guidance) not in (int, float) or not math.isfinite(self.guidance):
            raise BatchError(f"guidance is {self.guidance!r}; it must be a finite number.")


class BatchJob:
    """A job in a folder: ``masks/NAME.png``, ``job.json``, and ``done/NAME.png`` with ``done/NAME.json`` for each finished item.

    Make one with ``create`` or ``open``. ``job.json`` is written last, and each finished PNG after its JSON: where the file
    is, all is, also after a kill. One process at a time may run a job.
    """

    def __init__(
        self, folder: Path, settings: BatchSettings, names: Sequence[str], passed_over: Sequence[str] = ()
    ) -> None:
        self.folder, self.settings = folder, settings
        self.passed_over = tuple(passed_over)
        """What of the masks' ZIP was not read: lines for the visitor."""
        self.items = tuple(
            BatchItem(name, i, item_seed(settings.seed, i), folder / "masks" / f"{name}.png")
            for i, name in enumerate(names)
        )

    @classmethod
    def create(
        cls,
        folder: Path,
        masks: Sequence[NamedMask],
        prompt: str,
        seed: int,
        steps: int,
        guidance: float,
        scheduler: str,
        model: str | None = None,
        size: int | None = None,
    ) -> BatchJob:
        """Store a new job in ``folder``.

        Args:
            masks: 1 to ``MAX_MASKS``, as ``read_mask_zip`` gives them.
            seed: base of the items' seeds, see ``item_seed``.
            model: see ``BatchSettings``.
            size: side of the model's images, where known: masks that vanish at it are refused now rather than when they are sampled.

        Raises:
            BatchError: a job is there already, no or too many masks, two of one name, masks that are empty or too large, or a
                setting out of range.
            PairsError: a name that is no file name.
            OSError: the disk is full or refuses; there is no job then.
        """
        folder = Path(folder)
        settings = BatchSettings(prompt, seed, steps, guidance, scheduler, model)
        if (folder / "job.json").exists() or any((folder / "done").glob("*.png")):
            raise BatchError("there is a job in this folder already; open it, or choose another folder.")
        if not 1 <= len(masks) <= MAX_MASKS:
            raise BatchError(f"{len(masks)} masks; a job takes 1 to {MAX_MASKS}.")
        names = [m.name for m in masks]
        if len({n.casefold() for n in names}) < len(names):
            raise BatchError("two masks have the same name; rename one of them.")
        for name in names:
            check_name(name)
        if faults := [f"{m.name}: {fault}" for m in masks if (fault := _fault_of_mask(m.mask, size))]:
            raise BatchError("the job cannot be made; mend or leave out these masks", faults)
        for part in ("masks", "done"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for named in masks:
            _write(folder / "masks" / f"{named.name}.png", mask_png(named.mask))
        lines = report(masks.passed_over, indent="") if isinstance(masks, NamedMasks) else []
        values = {**vars(settings), "names": names, "passed_over": lines}
        _write(folder / "job.json", json.dumps(values).encode())
        return cls(folder, settings, names, lines)

    @classmethod
    def open(cls, folder: Path) -> BatchJob:
        """The job that ``create`` stored, with all that was finished since.

        Raises:
            BatchError: there is none, or its file is damaged.
        """
        folder = Path(folder)
        try:
            values: dict[str, Any] = json.loads((folder / "job.json").read_bytes())
            names = values.pop("names")
            for name in names:
                check_name(name)
            passed_over = values.pop("passed_over", [])  # jobs of version 0.2 and before have none
            return cls(folder, BatchSettings(**values), names, list(map(str, passed_over)))
        except FileNotFoundError as error:
            raise BatchError(
                "there is no job in this folder; it was never stored completely, or was removed. Start a new one."
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BatchError(f"the job's file is damaged ({error}). Start a new job.") from error

    @property
    def total(self) -> int:
        """Items in all."""
        return len(self.items)

    @property
    def done(self) -> int:
        """Items that are finished."""
        return sum(self._is_done(item) for item in self.items)

    def pending(self) -> list[BatchItem]:
        """Items that are not finished, in their order."""
        return [item for item in self.items if not self._is_done(item)]

    def store(self, item: BatchItem, pair: SyntheticPair, agreement: float | None = None) -> None:
        """Finish ``item`` with its image.

        Raises:
            BatchError: the pair was not made with the item's mask and seed or the job's settings.
            PairsError: agreement outside 0..1.
            OSError: the disk is full or refuses; the item stays pending.
        """
        got, want = pair.recipe, self.settings
        wrong = [
            f"{key} {have!r} instead of {should!r}"
            for key, have, should in (
                ("seed", got.seed, item.seed),
                ("prompt", got.prompt, want.prompt),
                ("steps", got.steps, want.steps),
                ("guidance", got.guidance, want.guidance),
                ("scheduler", got.scheduler, want.scheduler),
                ("model", got.model, got.model if want.model is None else want.model),
            )
            if have != should
        ]
        if not np.array_equal(pair.drawn, item.mask):
            wrong.append("another mask")
        if wrong:
            raise BatchError(
                f"{item.name} was sampled with {', '.join(wrong)}; run the job with the settings that it was made with."
            )
        _write(
            self._file(item).with_suffix(".json"),
            json.dumps({"agreement": check_agreement(agreement)}).encode(),
        )
        _write(self._file(item), pair_png(pair))

    def run(
        self,
        sample: Sample,
        chunk: int,
        cancelled: Callable[[], bool],
        agreement: Callable[[list[SyntheticPair]], Sequence[float | None]] | None = None,
    ) -> Iterator[BatchProgress | Any]:
        """Sample what is pending; yields after each chunk. Run it again, also in a new process, to continue.

        A chunk is always made of the same items: one that was stored in part is sampled whole again. So a continued job
        has the same bytes as an uninterrupted one even where an image's last bit depends on its batch.

        Args:
            sample: gives the pairs of a list of masks uint8 [H, W] and their seeds. A generator returns them, and what it yields
                meanwhile is yielded here, too.
            chunk: items that are sampled at once.
            cancelled: asked before each chunk; the run ends where it says so. What ``sample`` raises ends it as well.
            agreement: gives the mask agreement of each pair of a chunk; None where not measured.

        Raises:
            ValueError: ``chunk`` below 1, or ``sample`` or ``agreement`` gives another number than it was given.
            BatchError, PairsError, OSError: see ``store``. What was stored before stays.
        """
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}; it must be 1 or more.")
        blocks = [self.items[i : i + chunk] for i in range(0, self.total, chunk)]
        waiting = [b for b in blocks if not all(map(self._is_done, b))]
        spent = 0.0
        for number, block in enumerate(waiting, 1):
            if cancelled():
                return
            start = time.monotonic()
            pairs = sample([item.mask for item in block], [item.seed for item in block])
            if isinstance(pairs, Generator):
                pairs = yield from pairs
            agreements = [None] * len(pairs) if agreement is None else list(agreement(pairs))
            for item, pair, value in zip(block, pairs, agreements, strict=True):
                if not self._is_done(item):
                    self.store(item, pair, value)
            spent += time.monotonic() - start
            left = sum(map(len, waiting[number:]))
            yield BatchProgress(self.done, self.total, spent / sum(map(len, waiting[:number])) * left)

    def export(self, path: Path) -> int:
        """Write what is finished to the ZIP ``path`` as ``siamese.records.dataset_zip`` does, in the items' order; returns how many pairs.

        Raises:
            BatchError: nothing is finished; or a finished file is damaged, which then is pending again.
            OSError: ``path`` cannot be written.
        """
        try:
            return write_pairs(path, (self._load(item) for item in self.items if self._is_done(item)))
        except PairsError as error:
            raise BatchError("nothing is finished yet; run the job first.") from error

    def _file(self, item: BatchItem) -> Path:
        return self.folder / "done" / f"{item.name}.png"

    def _is_done(self, item: BatchItem) -> bool:
        return self._file(item).is_file()

    def _load(self, item: BatchItem) -> LabelledPair:
        file = self._file(item)
        try:
            data = file.read_bytes()
            agreement = check_agreement(json.loads(file.with_suffix(".json").read_bytes())["agreement"])
            return LabelledPair(item.name, read_png(data), agreement, data)
        except (
            NotSyntheticError,
            FileNotFoundError,
            ValueError,
            KeyError,
            TypeError,
        ) as error:  # not of a disk that fails for a moment
            file.unlink(missing_ok=True)
            raise BatchError(
                f"the finished image {item.name} was damaged on the disk; run the job again to make it anew."
            ) from error


def _fault_of_mask(mask: np.ndarray, size: int | None) -> str | None:
    try:
        if not check_mask(mask).any():
            return "the mask is empty: draw or mark a lesion"
        if max(mask.shape) > MAX_SIDE:
            return f"is {mask.shape[1]} x {mask.shape[0]} pixels; at most {MAX_SIDE} x {MAX_SIDE} are taken"
        if size is not None:
            fit_mask(mask, size)
    except MaskError as error:
        return str(error)
    return None


def _write(path: Path, data: bytes) -> None:
    with atomic_file(path) as file:
        file.write(data)
