"""On which kind of file system a folder lies, by Linux's table of mounts. Elsewhere nothing is known, and nothing said."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")
NETWORK = (
    "nfs",
    "nfs3",
    "nfs4",
    "cifs",
    "smb",
    "smb2",
    "smb3",
    "smbfs",
    "ncp",
    "ncpfs",
    "9p",
    "virtiofs",
    "ceph",
    "glusterfs",
    "lustre",
    "afs",
    "kafs",
    "coda",
    "davfs",
    "davfs2",
    "beegfs",
    "orangefs",
    "pvfs2",
    "gpfs",
    "panfs",
    "acfs",
    "gfs",
    "gfs2",
    "ocfs2",
    "vboxsf",
    "vmhgfs",
    "prl_fs",
    "sshfs",
    "s3fs",
    "gcsfuse",
    "fuse",
    "fuseblk",
)
"""File systems whose locks, or whose promise that data is on the disk, depend on another machine or program. ``fuse.NAME`` counts as well.
A local disk behind FUSE (``fuseblk``) is among them: what it promises is up to the program in between."""
MEMORY = ("tmpfs", "ramfs", "devtmpfs", "hugetlbfs")
"""File systems that are empty after a restart of the machine. A container's own layer (``overlay``) lasts as long as the container, of which
nothing is known here."""


def file_system(folder: Path) -> str | None:
    """The type of the file system that ``folder`` lies on, or will lie on once it is made; None if it cannot be known."""
    try:
        table = MOUNTINFO.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:  # no Linux, or a system that hides it
        return None
    return type_of(folder.resolve(), table)


def type_of(path: Path, table: str) -> str | None:
    """The type of the mount that ``path``, absolute and without links, lies on; None if ``table`` has none.

    Args:
        table: as Linux gives it: ``id parent device root MOUNTPOINT options [fields] - TYPE source options`` a line. Of mounts on one
            point the last one is seen. A bind mount has the type of what it shows.
    """
    longest, found = -1, None
    for line in table.split("\n"):
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 6:
            continue
        point = Path(unescaped(fields[4]))
        if path.is_relative_to(point) and len(point.parts) >= longest:
            longest, found = len(point.parts), unescaped(after.split(" ")[0])
    return found


def unescaped(field: str) -> str:
    """A field with its spaces, tabs, line breaks and backslashes, which the table writes as three octal digits of a byte each."""
    raw = re.sub(
        rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8) & 0xFF]), field.encode("utf-8", "surrogateescape")
    )
    return raw.decode("utf-8", "surrogateescape")


def is_remote(kind: str) -> bool:
    """Whether a file system of this type is on a network or made by a program (FUSE)."""
    return kind.lower() in NETWORK or kind.lower().startswith(("fuse.", "nfs", "smb", "cifs"))
