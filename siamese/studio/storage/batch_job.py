"""A batch on disk: masks, settings and finished images in one folder. It can be interrupted anywhere, and continued."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import ValidationError

from siamese.files.atomic import atomic_file
from siamese.files.decoding import MAX_SIDE, DecodingError
from siamese.masks.core import MaskError, binarise, check_mask, fit_mask
from siamese.masks.crop import Crop
from siamese.records.dataset_zip import (
    LabelledPair,
    PairsError,
    check_agreement,
    check_name,
    write_pairs,
)
from siamese.records.provenance import NotSyntheticError, SyntheticPair, mask_png, pair_png, read_png
from siamese.studio.storage.batch_settings import BatchSettings, FinishedNote, JobFile
from siamese.studio.storage.mask_zip import MAX_MASKS, BatchError, Frame, NamedMask

JOB_FILE = "job.json"
MAX_RESULT_BYTES = 1_200_000_000
"""Bytes of all images of a batch with frames, unpacked: each is as large as its frame."""


def item_seed(seed: int, index: int) -> int:
    """Seed of item ``index`` of a job with the base ``seed``, in 0..2^32 - 1: different for neighbouring items and jobs."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint32)[0])


@dataclass(frozen=True)
class BatchItem:
    """One image of a job."""

    name: str
    index: int
    seed: int
    mask_file: Path
    frame_file: Path | None = None
    """The photo into which the lesion is synthesised; several items may share one. None: the whole image is synthetic."""

    @property
    def frame(self) -> np.ndarray | None:
        """The photo uint8 [H, W, 3], read from disk at each use."""
        if self.frame_file is None:
            return None
        with Image.open(self.frame_file, formats=["PNG"]) as file:
            return np.array(file.convert("RGB"))

    @property
    def mask(self) -> np.ndarray:
        """uint8 [H, W] of 0 / 255, read from disk at each use."""
        with Image.open(self.mask_file, formats=["PNG"]) as file:
            return binarise(np.asarray(file.convert("L")))


class BatchJob:
    """A job in a folder: ``masks/NAME.png``, ``job.json``, and ``done/NAME.png`` with ``done/NAME.json`` for each finished item.

    If lesions are synthesised into photos, these are in ``frames/NAME.png``: pixels alone, without what cameras write beside them.

    Make one with ``create`` or ``open``. ``job.json`` is written after masks and frames, and each finished PNG after its JSON, so that a
    file which exists is complete, even after a kill. Only one process at a time may work on a job.
    """

    def __init__(
        self,
        folder: Path,
        settings: BatchSettings,
        names: Sequence[str],
        passed_over: Sequence[str] = (),
        frames: Sequence[str] | None = None,
    ) -> None:
        self.folder, self.settings = folder, settings
        self.passed_over = tuple(passed_over)
        """Lines for the visitor about files of the ZIP that were not read."""
        self.items = tuple(
            BatchItem(
                name,
                i,
                seed=item_seed(settings.seed, i),
                mask_file=folder / "masks" / f"{name}.png",
                frame_file=None if frames is None else folder / "frames" / f"{frames[i]}.png",
            )
            for i, name in enumerate(names)
        )

    @classmethod
    def create(
        cls,
        folder: Path,
        masks: Sequence[NamedMask],
        settings: BatchSettings,
        size: int | None = None,
        passed_over: Sequence[str] = (),
    ) -> BatchJob:
        """Store a new job in ``folder``.

        Args:
            masks: 1 to ``MAX_MASKS``, as ``read_mask_zip``, ``read_frame_zip`` and ``augmented`` return them.
            size: side of the model's images in pixels. If given, masks that vanish at this size are refused now, not during sampling.
            passed_over: lines for the visitor about files of the ZIP that were not read.

        Raises:
            BatchError: the folder holds a job already; there are too few or too many masks, or two of one name; a mask is
                empty, too large or of another size than its frame; or some masks have a frame and others have none.
            PairsError: a name that cannot name a file.
            OSError: the disk is full or fails; the folder holds no job then.
        """
        folder = Path(folder)
        if (folder / JOB_FILE).exists() or any((folder / "done").glob("*.png")):
            raise BatchError("there is a job in this folder already; open it, or choose another folder.")
        names = _checked_names(masks)
        frames = _checked_frames(masks)
        if faults := [f"{m.name}: {fault}" for m in masks if (fault := _fault_of(m, size))]:
            raise BatchError("the batch cannot start; correct or remove these masks", faults)
        for part in ("masks", "done"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for named in masks:
            _write(folder / "masks" / f"{named.name}.png", mask_png(named.mask))
        if frames is not None:
            _write_frames(folder / "frames", masks)
        file = JobFile(**settings.model_dump(), names=names, passed_over=list(passed_over), frames=frames)
        _write(folder / JOB_FILE, file.to_json())
        return cls(folder, settings, names, passed_over, frames)

    @classmethod
    def open(cls, folder: Path) -> BatchJob:
        """The job that ``create`` stored, with all items that were finished since.

        Raises:
            BatchError: there is no job, or its file is damaged.
        """
        folder = Path(folder)
        file = JobFile.read(folder / JOB_FILE)
        return cls(folder, file.settings, file.names, file.passed_over, file.frames)

    @property
    def total(self) -> int:
        """Number of items."""
        return len(self.items)

    @property
    def done(self) -> int:
        """Number of finished items."""
        return self.total - len(self.pending())

    def pending(self) -> list[BatchItem]:
        """Items that are not finished, in their order."""
        return [item for item in self.items if not self.is_done(item)]

    def is_done(self, item: BatchItem) -> bool:
        """Whether ``item`` is finished."""
        return self._file(item).is_file()

    def store(self, item: BatchItem, pair: SyntheticPair, agreement: float | None = None) -> None:
        """Finish ``item`` with its image.

        Args:
            agreement: Dice coefficient 0..1, None if it was not measured.

        Raises:
            BatchError: the pair was not made with the item's mask and seed and the job's settings.
            PairsError: agreement outside 0..1.
            OSError: the disk is full or fails; the item stays pending.
        """
        if wrong := self._differences(item, pair):
            raise BatchError(
                f"{item.name} was sampled with {', '.join(wrong)}; run the job with the settings that it was made with."
            )
        note = FinishedNote(agreement=check_agreement(agreement))
        _write(self._file(item).with_suffix(".json"), note.model_dump_json().encode())
        _write(self._file(item), pair_png(pair))

    def export(self, path: Path) -> int:
        """Write the finished pairs to the ZIP ``path`` as ``siamese.records.dataset_zip`` does, in the items' order.

        Returns:
            The number of pairs.

        Raises:
            BatchError: no item is finished; or a finished file is damaged, whose item is pending again.
            OSError: ``path`` cannot be written.
        """
        try:
            return write_pairs(path, (self._load(item) for item in self.items if self.is_done(item)))
        except PairsError as error:
            raise BatchError("nothing is finished yet; run the job first.") from error

    def _differences(self, item: BatchItem, pair: SyntheticPair) -> list[str]:
        """What the pair was made with that does not belong to the item."""
        recipe, wanted = pair.recipe, self.settings
        used = recipe.settings
        wrong = [
            f"{key} {have!r} instead of {should!r}"
            for key, have, should in (
                ("seed", recipe.seed, item.seed),
                ("prompt", recipe.prompt, wanted.prompt),
                ("steps", used.num_inference_steps, wanted.steps),
                ("guidance", used.guidance_scale, wanted.guidance),
                ("scheduler", used.scheduler, wanted.scheduler),
                ("model", recipe.model, recipe.model if wanted.model is None else wanted.model),
                ("background", recipe.background, None if item.frame_file is None else "real photo"),
            )
            if have != should
        ]
        return wrong if np.array_equal(pair.drawn, item.mask) else [*wrong, "another mask"]

    def _file(self, item: BatchItem) -> Path:
        return self.folder / "done" / f"{item.name}.png"

    def _load(self, item: BatchItem) -> LabelledPair:
        file = self._file(item)
        try:
            data = file.read_bytes()
            note = FinishedNote.model_validate_json(file.with_suffix(".json").read_bytes())
            return LabelledPair(item.name, read_png(data), note.agreement, data)
        except (NotSyntheticError, FileNotFoundError, ValidationError) as error:
            # Other errors of the disk may pass; this one does not, so the image has to be sampled again.
            file.unlink(missing_ok=True)
            raise BatchError(
                f"the finished image {item.name} was damaged on the disk; run the job again to sample it again."
            ) from error


def _checked_names(masks: Sequence[NamedMask]) -> list[str]:
    if not 1 <= len(masks) <= MAX_MASKS:
        raise BatchError(f"{len(masks)} masks; a batch takes 1 to {MAX_MASKS}.")
    names = [m.name for m in masks]
    if len({n.casefold() for n in names}) < len(names):
        raise BatchError("two masks have the same name; rename one of them.")
    for name in names:
        check_name(name)
    return names


def _checked_frames(masks: Sequence[NamedMask]) -> list[str] | None:
    """The names of the masks' frames; None if the images are synthetic as a whole."""
    frames = [m.frame for m in masks if m.frame is not None]
    if not frames:
        return None
    if len(frames) < len(masks):
        raise BatchError("some masks have a frame and others have none; run them as two batches.")
    by_name: dict[str, Frame] = {}
    for frame in frames:
        check_name(frame.name)
        if by_name.setdefault(frame.name.casefold(), frame) is not frame:
            raise BatchError(f"two frames are named {frame.name}; rename one of them.")
    return [frame.name for frame in frames]


def _write_frames(folder: Path, masks: Sequence[NamedMask]) -> None:
    """Write each frame once; raises BatchError if one cannot be read or has another size than a mask of it."""
    folder.mkdir(exist_ok=True)
    sizes: dict[str, tuple[int, ...]] = {}
    total = 0
    for named in masks:
        assert named.frame is not None
        name = named.frame.name
        if name not in sizes:
            try:
                photo = named.frame.photo()
            except DecodingError as error:
                raise BatchError("the batch cannot start", [f"{name}: {error}"]) from error
            sizes[name] = photo.shape[:2]
            _write(folder / f"{name}.png", _photo_png(photo))
        height, width = sizes[name]
        if named.mask.shape != (height, width):
            fault = f"has {named.mask.shape[1]} x {named.mask.shape[0]} pixels, its frame {width} x {height}"
            raise BatchError("masks must have the size of their frames", [f"{named.name}: {fault}"])
        total += 3 * height * width
        if total > MAX_RESULT_BYTES:
            raise BatchError(
                f"the images would have more than {MAX_RESULT_BYTES / 3e6:.0f} million pixels together; "
                "give fewer or smaller frames, or ask for fewer variants."
            )


def _photo_png(photo: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "PNG")
    return buffer.getvalue()


def _fault_of(named: NamedMask, size: int | None) -> str | None:
    mask = named.mask
    try:
        if not check_mask(mask).any():
            return "the mask is empty: draw or mark a lesion"
        if max(mask.shape) > MAX_SIDE:
            return f"is {mask.shape[1]} x {mask.shape[0]} pixels; the maximum is {MAX_SIDE} x {MAX_SIDE}"
        if size is not None:
            fit_mask(mask if named.frame is None else Crop.around(mask, size).cut_mask(mask), size)
    except MaskError as error:
        return str(error)
    return None


def _write(path: Path, data: bytes) -> None:
    with atomic_file(path) as file:
        file.write(data)
