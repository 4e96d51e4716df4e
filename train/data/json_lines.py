"""Pairs from a file of JSON lines, ``{"source": mask, "target": image, "prompt": text}``, as the released code reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from train.data.types import DataError, Pair
from train.engine.printing import print_once


@dataclass(frozen=True)
class Row:
    """A line of the file, which is ``number`` of it, from 1."""

    number: int
    image: Path
    mask: Path
    prompt: str | None


def read_json_rows(file: Path) -> tuple[list[Row], list[str]]:
    """The lines of ``file``, whose paths are relative to its own folder, and the faults of lines of another form.

    Raises:
        DataError: it is not a text file.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not a text file of JSON lines ({error}).") from error
    rows, faults = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            image, mask = (file.parent / values[key].replace("\\", "/") for key in ("target", "source"))
            prompt = None if values.get("prompt") is None else str(values["prompt"])
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            faults.append(f"line {number}: {error!r}")
        else:
            rows.append(Row(number, image, mask, prompt))
    return rows, faults


def read_json_lines(file: Path, prompt: str | None, otherwise: str | None) -> list[Pair]:
    """All pairs of ``file``; see ``train.data.pairs.read_pairs`` for ``prompt`` and ``otherwise``.

    Raises:
        DataError: it is not a text file, or every line of another form or without a prompt.
    """
    pairs, replaced = [], []
    rows, faults = read_json_rows(file)
    for row in rows:
        text = otherwise if row.prompt is None else row.prompt
        if prompt is not None:
            replaced += [text] if text not in (None, otherwise, prompt) else []
            text = prompt
        if text is None:
            faults.append(f"line {row.number}: no prompt")
        else:
            pairs.append(Pair(f"{file.stem}/{row.number:06d}-{row.image.stem}", row.image, row.mask, text))
    if faults:
        raise DataError.of(f"{file}: lines that are not {{source, target, prompt}}", faults)
    say_replaced(file, prompt, replaced)
    return pairs


def say_replaced(file: Path, prompt: str | None, replaced: Sequence[str]) -> None:
    """Print that ``prompt`` is used instead of the prompts in ``file``."""
    if replaced:
        print_once(
            f"{file}: --prompt, {prompt!r}, takes the place of the prompts of {len(replaced)} lines ({some_prompts(sorted(set(replaced)))})."
        )


def some_prompts(prompts: Sequence[str]) -> str:
    """Up to three prompts, and how many others there are."""
    return ", ".join(map(repr, prompts[:3])) + (f" and {len(prompts) - 3} others" if len(prompts) > 3 else "")
