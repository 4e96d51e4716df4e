"""``python -m siamese.exchange FORMAT_IN PATH_IN FORMAT_OUT PATH_OUT``: annotated images from one program's format to another's.

Free of torch. Nothing is written if a file cannot be read: every fault is listed with its file.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from siamese.exchange.formats import FORMATS, reading, write_folder, write_zip
from siamese.exchange.item import ExchangeError
from siamese.exchange.source import FOR_LOCAL

Name = Literal["png", "coco", "labelme", "cvat", "nnunet", "imagefolder", "dicom"]


@dataclass(frozen=True)
class Convert:
    """Convert annotated images from one format to another. Metadata of photographs, such as EXIF and a patient's data, is left out."""

    format_in: Annotated[Name | Literal["auto"], tyro.conf.Positional]
    """Format of what is read; auto finds it by the files' names."""
    path_in: Annotated[Path, tyro.conf.Positional]
    """A folder or a ZIP file."""
    format_out: Annotated[Name, tyro.conf.Positional]
    """Format of what is written."""
    path_out: Annotated[Path, tyro.conf.Positional]
    """A ZIP file if it ends in .zip, otherwise a folder, which must be empty or missing."""
    category: str | None = None
    """Read the lesions of this category alone."""

    def run(self) -> int:
        """Convert, and return how many images were written."""
        is_zip = self.path_out.suffix.lower() == ".zip"
        if (
            not is_zip
            and self.path_out.exists()
            and (not self.path_out.is_dir() or any(self.path_out.iterdir()))
        ):
            raise ExchangeError(f"{self.path_out} is not an empty folder; choose another one.")
        if not self.path_out.resolve().parent.is_dir():
            raise ExchangeError(f"the folder of {self.path_out} does not exist; make it first.")
        format = None if self.format_in == "auto" else self.format_in
        with reading(self.path_in, format=format, limits=FOR_LOCAL, category=self.category) as items:
            return (write_zip if is_zip else write_folder)(items, self.format_out, self.path_out)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    command = tyro.cli(Convert, args=arguments, prog="python -m siamese.exchange")
    try:
        count = command.run()
    except (ExchangeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{count} images written to {command.path_out} ({FORMATS[command.format_out].title}).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
