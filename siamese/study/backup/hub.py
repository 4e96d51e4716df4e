"""A copy of all studies in a private dataset repository on the Hugging Face Hub: restored at the start, pushed at intervals.

The repository's current files are the database's state: what a rater has withdrawn is not in them after the next push, and the history
that had it is erased. Answers are acknowledged once the database has them; a push does not keep a rater waiting.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from concurrent.futures import wait
from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, CommitScheduler, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError, RepositoryNotFoundError
from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr, ValidationError

from siamese.study.backup.snapshot import IMAGES, dump, dump_images, file_name, lacking, read_tables, restore
from siamese.study.storage.database import StorageError
from siamese.study.storage.durability import DatasetOptions
from siamese.study.storage.entities import random_id
from siamese.study.storage.schema import withdrawals
from siamese.study.storage.store import StudyStore
from siamese.web.settings import DATASET_VARIABLE

FORMAT = 1
SERVER = "server.json"
"""Which server wrote the files, and their format."""
STUDIES = "studies"
MIRROR = "dataset-copy"
"""Folder in the data directory: the repository's files as far as this server knows them."""
LAST_PUSH_SECONDS = 60
HUB_ERRORS = (HfHubHTTPError, httpx2.HTTPError, OSError, ValueError)
log = logging.getLogger(__name__)


class DatasetError(StorageError):
    """The dataset repository cannot be used; the message says what to do."""


def start_copy(
    store: StudyStore, folder: Path, options: DatasetOptions, api: HfApi | None = None
) -> DatasetCopy:
    """Store what the repository has and the database has not, then copy the database there until ``close``.

    Args:
        folder: data directory.

    Raises:
        DatasetError: no token, no access, a public repository, or answers in it that the database lost.
        StorageError: a study cannot be restored.
    """
    token = get_token()
    if api is None and not token:
        raise DatasetError(
            f"{DATASET_VARIABLE} is set, but no token: set HF_TOKEN to one that may write to {options.repository}."
        )
    api, mirror = api or HfApi(token=token), folder / MIRROR
    try:
        head = private_head(api, options.repository, make=True)
        shutil.rmtree(mirror, ignore_errors=True)  # of an earlier run; what matters is in the repository
        mirror.mkdir(mode=0o700)
        api.snapshot_download(
            options.repository,
            repo_type="dataset",
            revision=head,
            local_dir=mirror,
            allow_patterns=[SERVER, f"{STUDIES}/**"],
        )
    except HUB_ERRORS as error:
        raise DatasetError(
            f"the dataset repository {options.repository} cannot be read ({named(error)}), so that raters could not continue their "
            "sessions. Start again when the hub answers; check HF_TOKEN and the repository's name."
        ) from error
    restore_all(store, mirror, options.repository)
    try:
        return DatasetCopy(store, mirror, options, api)
    except HUB_ERRORS as error:
        raise DatasetError(
            f"the dataset repository {options.repository} cannot be written ({named(error)}). Check that HF_TOKEN may write "
            "to it."
        ) from error


def private_head(api: HfApi, repository: str, make: bool = False) -> str:
    """The newest commit of the repository; ``make`` one if it has none.

    Raises:
        DatasetError: it is public.
    """
    try:
        info = api.repo_info(repository, repo_type="dataset")
    except RepositoryNotFoundError:
        if not make:
            raise
        api.create_repo(repository, repo_type="dataset", private=True)
        info = api.repo_info(repository, repo_type="dataset")
    if not info.private:
        raise DatasetError(
            f"the dataset repository {repository} is public; it would show answers and the studies' key. Make it private, or name "
            f"another one in {DATASET_VARIABLE}."
        )
    if info.sha is None:
        raise DatasetError(f"the dataset repository {repository} has no commit yet; try again.")
    return info.sha


def restore_all(store: StudyStore, mirror: Path, repository: str) -> None:
    """Store every study of the mirror that the database does not have.

    Raises:
        DatasetError: another format, or the database is older than the repository.
        StorageError: a study cannot be restored.
    """
    server = read_server(mirror / SERVER)
    if server is not None and server.format != FORMAT:
        raise DatasetError(
            f"the files in {repository} have format {server.format}; this version reads {FORMAT}."
        )
    for folder in sorted((mirror / STUDIES).glob("*/")):
        if restore(store.database, folder):
            log.warning("Restored study %s from %s.", folder.name, repository)
        elif missing := lacking(store.database, read_tables(folder)):
            raise DatasetError(
                f"{repository} has {missing} raters or answers of study {folder.name} that the database lacks, and they would be "
                f"overwritten. Move the database away to restore the study, or name another repository in {DATASET_VARIABLE}."
            )


class ServerNote(BaseModel):
    """Which server wrote the repository's files, and their format. Somebody else may have changed the note."""

    model_config = ConfigDict(frozen=True)
    format: StrictInt
    server: StrictStr


def read_server(file: Path) -> ServerNote | None:
    """Who wrote the repository's files; None if nobody has.

    Raises:
        DatasetError: the note is damaged.
    """
    if not file.exists():
        return None
    try:
        return ServerNote.model_validate_json(file.read_bytes())
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))} {one['msg']}".strip() for one in error.errors())
        raise DatasetError(f"{SERVER} of the dataset repository is damaged ({said}).") from error


def named(error: Exception) -> str:
    """An error in one line."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    return (
        f"HTTP {status}"
        if status
        else f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else 'no answer'}"
    )


class DatasetCopy(CommitScheduler):
    """Pushes changed studies every ``options.minutes`` and whenever the store says that an administrator changed something.

    A push that fails is tried again the next time; ``problem`` says why until one succeeds.
    """

    def __init__(self, store: StudyStore, mirror: Path, options: DatasetOptions, api: HfApi) -> None:
        self.store, self.mirror, self.options = store, mirror, options
        self.copied_at, self.problem = time.time(), None
        base = read_server(mirror / SERVER)
        self._id = random_id()
        self._servers = {base.server if base else None, self._id}
        # Another run may have pushed a withdrawal and died before it erased the history.
        self._erase = any(
            (folder / file_name(withdrawals)).stat().st_size for folder in (mirror / STUDIES).glob("*/")
        )
        # Its thread begins to push now.
        super().__init__(
            repo_id=options.repository,
            repo_type="dataset",
            folder_path=mirror,
            every=options.minutes,
            private=True,
            hf_api=api,
        )

    def push_to_hub(self) -> None:
        """Push what changed. The scheduler calls it, one at a time, and logs what it raises.

        Raises:
            DatasetError, StorageError: not pushed; see the message.
        """
        began = time.time()
        try:
            self._push()
        except HUB_ERRORS as error:
            self.problem = f"the hub did not take it ({named(error)})."
            raise DatasetError(self.problem) from error
        except StorageError as error:
            self.problem = str(error)
            raise
        self.copied_at, self.problem = began, None

    def _push(self) -> None:
        head = private_head(self.api, self.repo_id)
        self._check_owner(head)
        with tempfile.TemporaryDirectory(dir=self.mirror.parent, prefix="dataset-push-") as space:
            changed = self._changed(Path(space))
            if changed:
                (Path(space) / SERVER).write_text(
                    ServerNote(format=FORMAT, server=self._id).model_dump_json(), encoding="utf-8"
                )
                names = [*changed, SERVER]
                # The hub refuses it if somebody else pushed since ``head``.
                self.api.create_commit(
                    self.repo_id,
                    [CommitOperationAdd(name, Path(space) / name) for name in names],
                    repo_type="dataset",
                    commit_message="Copy of the studies",
                    parent_commit=head,
                )
                for name in names:
                    (self.mirror / name).parent.mkdir(parents=True, exist_ok=True)
                    (Path(space) / name).replace(self.mirror / name)
        if self._erase:
            self.api.super_squash_history(
                self.repo_id, repo_type="dataset", commit_message="Copy of the studies"
            )
            self._erase = False

    def _changed(self, space: Path) -> list[str]:
        """Write what the mirror has not to ``space``; the files' names."""
        changed = []
        for study in self.store.studies():
            place = f"{STUDIES}/{study.config.id}"
            (space / place).mkdir(parents=True)
            for name, data in dump(self.store.database, study.config.id).items():
                old = self.mirror / place / name
                if not old.exists() or old.read_bytes() != data:
                    (space / place / name).write_bytes(data)
                    changed.append(f"{place}/{name}")
                    self._erase |= name == file_name(withdrawals) and bool(data)
            if not (self.mirror / place / IMAGES).exists():
                dump_images(self.store.database, study.config.id, space / place / IMAGES)
                changed.append(f"{place}/{IMAGES}")
        return changed

    def _check_owner(self, head: str) -> None:
        """Raise a DatasetError if another server pushed: its answers would be overwritten."""
        with tempfile.TemporaryDirectory(prefix="dataset-") as space:
            try:
                file = Path(
                    self.api.hf_hub_download(
                        self.repo_id, SERVER, repo_type="dataset", revision=head, local_dir=space
                    )
                )
            except (
                RemoteEntryNotFoundError
            ):  # not its base class: an unreachable hub says nothing about the file
                found = None
            else:
                note = read_server(file)
                found = note.server if note else None
        if found not in self._servers:
            raise DatasetError(
                f"another server pushed to {self.repo_id}; nothing of it was overwritten. Export the answers here, and let only one "
                "server use the repository."
            )

    def close(self) -> None:
        """Push a last time and stop. A push that fails is logged; it takes up to a minute."""
        wait([self.trigger()], LAST_PUSH_SECONDS)
        self.stop()
