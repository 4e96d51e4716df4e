"""The folder for data of both servers if the operator names none."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from siamese.web.hf_space import volume


def default_folder() -> Path:
    """The persistent volume on a Space that has one, otherwise the platform's folder for a user's data."""
    mounted = volume()
    if mounted:
        return mounted / "siamese-studio"
    return platformdirs.user_data_path("siamese-studio", appauthor=False)
