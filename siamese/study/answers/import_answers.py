"""Import of an export's JSON: a study's configuration and answers, without its images, so that results can be had again.

The file is not trusted: every answer has to fit the protocol, the configuration its hash.
"""

from __future__ import annotations

import json

from pydantic import ValidationError
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from siamese.study.answers.export_format import FORMAT, ExportedStudy, ImportRefusedError
from siamese.study.answers.import_rows import rows_of_export
from siamese.study.config import StudyConfig
from siamese.study.storage.schema import answers, new_number
from siamese.study.storage.store import Study, StudyStore, find_study


def import_study(store: StudyStore, text: str | bytes) -> Study:
    """Store the study of an export; it is closed, and cannot be opened to raters since it has no images.

    Raters keep their numbers. Notes of withdrawals keep who asked and how many answers were deleted, and get the time of the import.

    Raises:
        ImportRefusedError: no export, a changed one, or a study of this id is here already. Nothing is stored.
        ConfigError: its configuration cannot be used.
        StorageError: not stored.
    """
    try:
        given = ExportedStudy.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ImportRefusedError(
            f"this is not an export of a study: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}. "
            "Choose a JSON file that Export wrote."
        ) from error
    if given.format != FORMAT:
        raise ImportRefusedError(f"the export has format {given.format}; this version reads {FORMAT}.")
    config = StudyConfig.from_json(json.dumps(given.config))
    if config.hash() != given.config_sha256:
        raise ImportRefusedError(
            "the export's configuration does not have the hash that it names: the file was changed."
        )
    imported = rows_of_export(config, given)
    try:
        with store.database.write() as connection:
            for table, rows in imported.rows.items():
                if rows:
                    connection.execute(insert(table), rows)
            stored: dict[int, int] = {}
            for one, row in zip(given.answers, imported.answers, strict=True):
                earlier = None if one.supersedes is None else stored[one.supersedes]
                values = row | {"supersedes": earlier}
                stored[one.number] = new_number(connection.execute(insert(answers).values(values)))
            made = find_study(connection, config.id)
    except IntegrityError as error:
        raise ImportRefusedError(
            f"there is a study {config.id!r} already; import into another database."
        ) from error
    store.changed()
    return made
