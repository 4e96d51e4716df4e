"""The formats by name, and reading and writing a whole data set. Each format is a file of this folder with the same three functions.

>>> from siamese.exchange.formats import FORMATS
>>> sorted(FORMATS)
['coco', 'cvat', 'dicom', 'imagefolder', 'labelme', 'nnunet', 'png']
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from siamese import VERSION
from siamese.exchange import coco, cvat, dicom, imagefolder, labelme, nnunet, png
from siamese.exchange.item import AnnotatedImage, ExchangeError, renamed
from siamese.exchange.source import FOR_VISITORS, Source, SourceLimits, open_source
from siamese.exchange.target import Put, into_folder, into_zip
from siamese.files.archives import ArchiveError
from siamese.files.names import shown_name


@dataclass(frozen=True)
class Format:
    """A way of storing annotated images."""

    name: str
    title: str
    """For people."""
    write: Callable[[Iterable[AnnotatedImage], Put], int]
    read: Callable[[Source], Iterator[AnnotatedImage]]
    fits: Callable[[Source], bool]
    """Whether a data set may be of this format, as far as its files' names tell."""


def _format(name: str, title: str, module: object) -> Format:
    return Format(name, title, module.write, module.read, module.fits)  # pyright: ignore[reportAttributeAccessIssue]


FORMATS = {
    name: _format(name, title, module)
    for name, title, module in (
        ("png", "PNG pairs (images and masks)", png),
        ("coco", "COCO (one annotation a lesion)", coco),
        ("labelme", "LabelMe", labelme),
        ("cvat", "CVAT for images 1.1", cvat),
        ("nnunet", "nnU-Net raw data set", nnunet),
        ("imagefolder", "Hugging Face image folder", imagefolder),
        ("dicom", "DICOM images with segmentations", dicom),
    )
}
"""By name, in the order in which a page offers them."""
README = """Images with masks of lesions: {title}
Written by Siamese-Diffusion Studio {version}.

{synthetic} synthetic images; each file says that it is synthetic. {notice}
{other} other images. They are not marked as synthetic and may be photographs of patients: pixels alone, without metadata.

Terms: synthetic images follow the licence of the weights that made them, the file LICENSE in the model's folder.
"""
_RECOGNISED = ("cvat", "imagefolder", "nnunet", "png", "dicom", "coco", "labelme")
"""The most telling file names first."""


def write_folder(items: Iterable[AnnotatedImage], format: str, folder: Path) -> int:
    """Write ``items`` to ``folder``, one at a time, and return how many they were; see ``siamese.exchange.target.into_folder``.

    Raises:
        ExchangeError: an unknown format, no items, a name that comes twice, or what the format cannot hold.
        OSError: the disk is full or refuses.
    """
    with into_folder(folder) as put:
        return _write(items, format, put)


def write_zip(items: Iterable[AnnotatedImage], format: str, path: Path) -> int:
    """Write ``items`` to the ZIP file ``path``, one at a time, and return how many they were. An existing file is replaced.

    Raises:
        ExchangeError: see ``write_folder``.
        OSError: the disk is full or refuses. After any error, what lay at ``path`` before is still there.
    """
    with into_zip(path) as put:
        return _write(items, format, put)


def read(
    path: Path, format: str | None = None, limits: SourceLimits = FOR_VISITORS, category: str | None = None
) -> list[AnnotatedImage]:
    """The annotated images in the folder or ZIP file at ``path``; images of the same name get ``_2``, ``_3``.

    Args:
        format: one of ``FORMATS``; None for the one that ``recognise`` finds.
        category: read the lesions of this category alone; an image without one has an empty mask. Needed if an image has
            lesions of several, because an item has one mask.

    Raises:
        ExchangeError: another format, above a limit, or files that cannot be used; it lists those by name and says what to do.
        OSError: the disk fails.
    """
    with reading(path, format=format, limits=limits, category=category) as items:
        return list(items)


@contextmanager
def reading(
    path: Path, format: str | None = None, limits: SourceLimits = FOR_VISITORS, category: str | None = None
) -> Iterator[Iterator[AnnotatedImage]]:
    """``read`` one image at a time, for data sets larger than the memory. The faults are raised behind the last image."""
    with open_source(path, limits) as source:
        source.category = category
        if format is None and (format := _recognised(source)) is None:
            raise ExchangeError(f"the format of {shown_name(Path(path).name)} is not known; choose it.")
        yield renamed(_checked(source, _named(format)))


def recognise(path: Path, limits: SourceLimits = FOR_VISITORS) -> str | None:
    """The format of the data set in the folder or ZIP file at ``path``, as far as its files' names tell; None if they do not.

    Raises:
        ExchangeError: neither a folder nor a ZIP file that can be read.
        OSError: the disk fails.
    """
    with open_source(path, limits) as source:
        return _recognised(source)


def _recognised(source: Source) -> str | None:
    return next((name for name in _RECOGNISED if FORMATS[name].fits(source)), None)


def _named(format: str) -> Format:
    if format not in FORMATS:
        raise ExchangeError(f"{format!r} is not a known format; choose one of {', '.join(FORMATS)}.")
    return FORMATS[format]


def _write(items: Iterable[AnnotatedImage], format: str, put: Put) -> int:
    written, synthetic, notices = _named(format), 0, set[str]()

    def counted() -> Iterator[AnnotatedImage]:
        nonlocal synthetic
        for item in items:
            synthetic += item.synthetic
            notices.add(item.notice)
            yield item

    count = written.write(counted(), put)
    if not count:
        raise ExchangeError("there are no images to write; keep or make at least one first.")
    text = README.format(
        title=written.title,
        version=VERSION,
        synthetic=synthetic,
        other=count - synthetic,
        notice=" ".join(sorted(notices)),
    )
    put("README.txt", text.encode())
    return count


def _checked(source: Source, format: Format) -> Iterator[AnnotatedImage]:
    """What the format reads, and then the faults."""
    count = 0
    try:
        for item in format.read(source):
            count += 1
            yield item
    except ArchiveError as error:
        raise ExchangeError(str(error)) from error
    source.check()
    if not count:
        raise ExchangeError(f"there are no annotated images of the format {format.title}.")
