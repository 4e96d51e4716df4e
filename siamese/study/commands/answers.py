"""``export``, ``import`` and ``report``: answers as files, and their results."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from siamese.study.answers.export import answers_csv, answers_json, read_answers
from siamese.study.answers.import_answers import import_study
from siamese.study.commands.options import StorageOptions
from siamese.study.report.results import read_results
from siamese.study.web.pages import report_html
from siamese.web.settings import SetupError


@dataclass(frozen=True)
class Export:
    """Write a study's raw answers."""

    study: tyro.conf.Positional[str]
    """The study's id."""
    out: tyro.conf.Positional[Path]
    """File to write: .csv or .json."""
    pseudonyms: bool = False
    """Include the raters' pseudonyms; otherwise raters are numbered."""
    place: Annotated[StorageOptions, tyro.conf.arg(name="")] = field(default_factory=StorageOptions)

    def run(self) -> None:
        """Write the file and say how many answers it holds."""
        if self.out.suffix not in (".csv", ".json"):
            raise SetupError(f"{self.out}: name a file that ends in .csv or .json.")
        store = self.place.store()
        given, table = read_answers(store, self.study), self.out.suffix == ".csv"
        text = answers_csv(given, self.pseudonyms) if table else answers_json(store, given, self.pseudonyms)
        # Spreadsheet programs know UTF-8 by its mark alone.
        self.out.write_text(text, encoding="utf-8-sig" if table else "utf-8", newline="")
        print(f"{self.out}: {len(given.answers)} answers")


@dataclass(frozen=True)
class Import:
    """Read a study's JSON export into a database that does not have it, for its results. Images are not in exports."""

    file: tyro.conf.Positional[Path]
    """What export wrote: .json."""
    place: Annotated[StorageOptions, tyro.conf.arg(name="")] = field(default_factory=StorageOptions)

    def run(self) -> None:
        """Store it and say what was stored."""
        try:
            text = self.file.read_bytes()
        except OSError as error:
            raise SetupError(f"{self.file} cannot be read ({error.strerror}).") from error
        store = self.place.store()
        study = import_study(store, text).config.id
        print(
            f"{study}: {len(read_answers(store, study).answers)} answers\n"
            f"Next: python -m siamese.study report --study {study} --out {study}.html"
        )


@dataclass(frozen=True)
class Report:
    """Write a study's results with plots to one HTML file, without names."""

    study: str
    """The study's id."""
    out: Path
    """File to write."""
    raters: Literal["complete", "all"] = "complete"
    """Whose answers the figures are of: raters who answered every item that counts, or all with an answer."""
    place: Annotated[StorageOptions, tyro.conf.arg(name="")] = field(default_factory=StorageOptions)

    def run(self) -> None:
        """Write the file and say whose answers its figures are of."""
        results = read_results(self.place.store(), self.study, self.raters)
        html = report_html(results)
        try:
            self.out.write_text(html, encoding="utf-8")
        except OSError as error:
            raise SetupError(f"{self.out} cannot be written ({error.strerror}).") from error
        print(f"{self.out}: {len(html.encode('utf-8')) // 1024} KiB")
        for line in (*results.who, *([results.missing] if results.missing else [])):
            print(line)
