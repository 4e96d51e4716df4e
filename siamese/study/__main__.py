"""``python -m siamese.study``: plan and make studies, invite raters, serve them, report results, export and import answers.

Free of torch, which only ``create --sample`` and ``demo`` load.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import tyro

from siamese.study.commands.answers import Export, Import, Report
from siamese.study.commands.create import Create
from siamese.study.commands.plan import PlanSize
from siamese.study.commands.running import Close, Invite, Open
from siamese.study.commands.serve import Demo, Serve
from siamese.study.config import ConfigError
from siamese.study.statistics.table import StatisticsError
from siamese.study.storage.database import StorageError
from siamese.study.storage.entities import StudyError
from siamese.web.access import AccessError
from siamese.web.listen import ListenError
from siamese.web.settings import SetupError

Commands = (
    Annotated[Create, tyro.conf.subcommand("create")]
    | Annotated[PlanSize, tyro.conf.subcommand("plan")]
    | Annotated[Invite, tyro.conf.subcommand("invite")]
    | Annotated[Serve, tyro.conf.subcommand("serve")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Open, tyro.conf.subcommand("open")]
    | Annotated[Close, tyro.conf.subcommand("close")]
)
USER_ERRORS = (
    AccessError,
    ConfigError,
    ListenError,
    SetupError,
    StatisticsError,
    StorageError,
    StudyError,
)
"""Errors that the user can correct; their messages say how."""


def main(arguments: list[str] | None = None) -> None:
    """Run one command. An error that the user can correct is printed as a message and ends with status 1."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    command = tyro.cli(Commands, args=arguments, description=__doc__, config=(tyro.conf.OmitArgPrefixes,))
    try:
        command.run()
    except USER_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt as error:
        print("interrupted.", file=sys.stderr)
        raise SystemExit(130) from error


if __name__ == "__main__":
    main()
