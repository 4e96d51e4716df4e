"""Names of files: safe ones for files that are written, comparable and printable ones for files of strangers.

Decided once, here: names are normalised to NFC (macOS hands out NFD, in which an accented letter is two characters), and lengths
are limited in bytes of UTF-8, because file systems count bytes: 255 with the suffix.
"""

from __future__ import annotations

import re
import unicodedata

MAX_NAME_BYTES = 120
"""Bytes in UTF-8 of a name that is written, without suffix."""
WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"}
)
"""Windows takes a file of such a name, with any suffix and in any case, for a device."""
MAX_SHOWN = 100
"""Characters of a stranger's text in a message."""
_SAFE = re.compile(r"\w(?:[\w.-]*\w)?")


def is_device(name: str) -> bool:
    """Whether Windows takes a file called ``name`` for a device."""
    return name.split(".")[0].strip().casefold() in WINDOWS_DEVICES


def safe_name(name: str, fallback: str = "mask") -> str:
    """``name`` as a file name, without suffix, that every system accepts.

    The result consists of letters, digits, ``_``, ``-`` and inner dots and has at most ``MAX_NAME_BYTES`` bytes. It is neither hidden,
    nor a path, nor a device on Windows. If nothing is left of ``name``, the result is ``fallback``.

    >>> safe_name("ward 3/case é"), safe_name("con"), safe_name("...", "photo")
    ('ward_3_case_é', 'mask_con', 'photo')
    """
    clean = re.sub(r"[^\w.-]", "_", normal_form(name)).strip(".-")
    if is_device(clean):
        clean = f"{fallback}_{clean}"
    return clean.encode()[:MAX_NAME_BYTES].decode(errors="ignore").rstrip(".-") or fallback


def is_safe_name(name: object) -> bool:
    """Whether ``name`` is a text that ``safe_name`` could have written."""
    return (
        isinstance(name, str)
        and _SAFE.fullmatch(name) is not None
        and len(name.encode()) <= MAX_NAME_BYTES
        and not is_device(name)
    )


def normal_form(name: str) -> str:
    """``name`` in NFC: two names that look the same are equal."""
    return unicodedata.normalize("NFC", name)


def path_parts(path: str) -> list[str]:
    """The parts of a path; some programs on Windows write backslashes, also into ZIP files and lists of files.

    >>> path_parts("masks\\\\case 1.png")
    ['masks', 'case 1.png']
    """
    return re.split(r"[\\/]", path)


def shown_name(text: str) -> str:
    """A stranger's name or text as one printable line of at most ``MAX_SHOWN`` characters, fit for a message."""
    text = "".join(c if c.isprintable() else "?" for c in normal_form(text))
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."
