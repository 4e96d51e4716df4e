"""What a Hugging Face Space says about itself, and its conventions. None of it applies elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from siamese.web.access import Access, StudioAccess
from siamese.web.settings import SpaceEnvironment

VOLUME = Path("/data")
"""The folder at which a Space mounts a persistent volume; everything else is gone when it restarts."""
PROXIES = "10.0.0.0/8"
"""A Space's proxies, which are in a private network: they may say whom a request is from."""
FRAME = "https://huggingface.co"
"""Shows a Space in a frame of its own page."""


def on_space() -> bool:
    """Whether this runs on a Space."""
    return SpaceEnvironment.read().id is not None


def volume() -> Path | None:
    """The Space's persistent volume; None if it has none, if it cannot be written, or if this is not a Space."""
    return VOLUME if on_space() and os.path.ismount(VOLUME) and os.access(VOLUME, os.W_OK | os.X_OK) else None


def lasts(folder: Path) -> bool:
    """Whether files in ``folder`` are there after a restart."""
    mounted = volume()
    return not on_space() or (mounted is not None and folder.resolve().is_relative_to(mounted.resolve()))


def origin() -> str | None:
    """The Space's own address; None elsewhere. Requests come from its proxy, and do not always show that they were encrypted."""
    host = SpaceEnvironment.read().host
    return f"https://{host}" if host else None


def trusted_proxies(access: Access) -> tuple[str, ...]:
    """Addresses and networks whose word about a request's origin counts: those that the operator names, and a Space's own.

    Raises:
        siamese.web.access.AccessError: what the operator names is neither.
    """
    return (*access.proxies(), *((PROXIES, f"::ffff:{PROXIES.partition('/')[0]}/104") if on_space() else ()))


def frame_ancestors(access: StudioAccess) -> tuple[str, ...]:
    """Origins besides the studio's own that may show it in a frame.

    Raises:
        siamese.web.access.AccessError: what the operator names is not an origin.
    """
    return (*access.frames(), *((FRAME,) if on_space() else ()))
