"""The models that the studio offers: folders with their card, licence and figures, read without loading a network."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from siamese.masks.shapes import ShapeStatistics, folder_statistics, load_statistics
from siamese.records.provenance import NotSyntheticError, SyntheticPair, read_png
from siamese.records.subjects import Subject, Subjects, read_subjects

SHEET = "samples.png"
"""Sheet of masks and samples in a model folder, if its training made one."""


@dataclass(frozen=True)
class ModelEntry:
    """One model that can be chosen."""

    name: str
    source: str
    """Folder, or an owner/name on the Hugging Face Hub, of which nothing is known before it is loaded."""
    folder: Path | None = None
    card: str = ""
    """Markdown of its README.md, without the metadata block at the top."""
    licence: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    """metrics.json as measured; empty if the folder has no such file."""
    kinds: Subjects = field(default_factory=lambda: read_subjects(None))
    """What it draws, under which names."""

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """The kinds of image to choose from, in the order of the page; the first is what a first visit draws."""
        return self.kinds.listed

    @property
    def title(self) -> str:
        """The model's name for people; ``name`` is what requests and recipes name it by."""
        return self.kinds.title or self.name

    @property
    def sheet(self) -> Path | None:
        """The PNG of training masks and samples of them; None if the folder has none."""
        return self.folder / SHEET if self.folder and (self.folder / SHEET).is_file() else None

    def subject(self, prompt: str) -> Subject:
        """The subject of ``prompt``.

        Raises:
            ValueError: the model does not know the prompt.
        """
        return self.kinds.of(prompt)

    def statistics(self, prompt: str) -> ShapeStatistics | None:
        """Statistics of the subject's shapes for ``random_lesion``, the folder's own before the packaged ones; None if there are none.

        Raises:
            ShapeError: the file is damaged.
        """
        own = folder_statistics(self.folder) if self.folder else {}
        return own.get(prompt, load_statistics().get(prompt))

    def examples(self) -> list[SyntheticPair]:
        """The pairs in ``examples/*.png``, by name: what a first visit shows. Files that are not the studio's are left out."""
        pairs = []
        for path in sorted((self.folder / "examples").glob("*.png")) if self.folder else []:
            try:
                pairs.append(read_png(path.read_bytes()))
            except NotSyntheticError:
                continue
        return pairs


def describe(source: str) -> ModelEntry:
    """The entry of a model folder or hub id. A missing or damaged file leaves its part empty: loading will say more.

    Raises:
        ValueError: ``metrics.json`` is no JSON object, or ``subjects.json`` or ``lesion_shapes.json`` is damaged.
    """
    folder = Path(source)
    if not (folder / "model_index.json").is_file():
        return ModelEntry(source.rstrip("/").split("/")[-1], source)
    metrics: Any = {}
    if (folder / "metrics.json").is_file():
        try:
            metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{folder / 'metrics.json'} is not JSON ({error}); correct it or remove it."
            ) from error
        if not isinstance(metrics, dict):
            raise ValueError(f"{folder / 'metrics.json'} must hold a JSON object; correct it or remove it.")
    return ModelEntry(
        name=folder.resolve().name,
        source=source,
        folder=folder,
        card=_without_metadata(_text(folder / "README.md")),
        licence=_text(folder / "LICENSE"),
        metrics=metrics,
        kinds=read_subjects(folder),
    )


def find_models(default: str, folder: Path | None) -> list[ModelEntry]:
    """``default`` first, then every model folder directly in ``folder``, by name.

    Raises:
        ValueError: ``folder`` does not exist or holds no model.
    """
    entries = [describe(default)]
    if folder is not None:
        found = sorted(p.parent for p in folder.glob("*/model_index.json")) if folder.is_dir() else []
        if not found:
            raise ValueError(
                f"{folder} holds no model folder; each needs a model_index.json. Train one with python -m train siamese."
            )
        known = {entries[0].folder and entries[0].folder.resolve()}
        entries += [describe(str(p)) for p in found if p.resolve() not in known]
    names = [e.name for e in entries]
    if doubles := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(f"two models have the name {', '.join(doubles)}; rename one of the folders.")
    return entries


def figures(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows (part, figure, value) of a metrics.json for a table; nested values are left out."""
    rows = []
    for part, values in metrics.items():
        if isinstance(values, dict):
            rows += [
                (part, name.replace("_", " "), f"{value:.3f}")
                for name, value in values.items()
                if isinstance(value, int | float)
            ]
    return rows


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _without_metadata(card: str) -> str:
    """A hub card begins with YAML between two lines of three dashes."""
    if card.startswith("---\n") and (end := card.find("\n---\n", 4)) > 0:
        return card[end + 5 :].lstrip()
    return card
