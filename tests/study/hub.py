"""A stand-in of the Hugging Face Hub on loopback: as much of its HTTP API as copying studies needs, with commits and their history."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_stand_in"
REPOSITORY = "clinic/ratings"


@dataclass
class Commit:
    """Files at one moment."""

    sha: str
    files: dict[str, bytes]


@dataclass
class Hub:
    """One dataset repository, not there at first."""

    commits: list[Commit] = field(default_factory=list)
    private: bool = True
    down: bool = False
    """Answer nothing but 503."""
    requests: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    address: str = ""

    def commit(self, files: dict[str, bytes]) -> Commit:
        """Add a commit with these files and no others."""
        sha = hashlib.sha1(f"{len(self.requests)} {len(self.commits)} {sorted(files)}".encode()).hexdigest()
        self.commits.append(Commit(sha, files))
        return self.commits[-1]

    @property
    def files(self) -> dict[str, bytes]:
        """The current files."""
        return self.commits[-1].files if self.commits else {}

    def history(self) -> bytes:
        """All that any commit holds."""
        return b"".join(data for commit in self.commits for data in commit.files.values())

    def rows(self, study: str, table: str) -> list[dict]:
        """A table of a study as it is in the repository."""
        return [
            json.loads(line) for line in self.files[f"studies/{study}/{table}.jsonl"].decode().splitlines()
        ]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def reply(self, status: int, body: object = None, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {
            "Content-Length": str(len(data)),
            "Content-Type": "application/json",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_any(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {path}")
            if self.hub.down:
                self.reply(503, {"error": "down"})
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.reply(401, {"error": "no token"})
            elif path == "/api/repos/create":
                self.create(json.loads(body))
            elif not self.hub.commits:
                self.reply(404, {"error": "no repository"}, {"X-Error-Code": "RepoNotFound"})
            elif path.startswith(f"/datasets/{REPOSITORY}/resolve/"):
                self.resolve(*path.removeprefix(f"/datasets/{REPOSITORY}/resolve/").split("/", 1))
            else:
                self.api(path.removeprefix(f"/api/datasets/{REPOSITORY}").strip("/").split("/"), body)

    do_GET = do_HEAD = do_POST = handle_any

    def create(self, given: dict) -> None:
        if self.hub.commits:
            self.reply(409, {"error": "exists", "url": f"{self.hub.address}/datasets/{REPOSITORY}"})
            return
        assert (given["organization"], given["name"], given["type"]) == (*REPOSITORY.split("/"), "dataset")
        self.hub.private = given.get("private") is True or given.get("visibility") == "private"
        self.hub.commit({".gitattributes": b"*.zip filter=lfs\n"})
        self.reply(200, {"url": f"{self.hub.address}/datasets/{REPOSITORY}"})

    def at(self, revision: str) -> Commit | None:
        return (
            self.hub.commits[-1]
            if revision == "main"
            else next((c for c in self.hub.commits if c.sha == revision), None)
        )

    def resolve(self, revision: str, name: str) -> None:
        commit = self.at(revision)
        if commit is None or name not in commit.files:
            self.reply(
                404, {"error": "no file"}, {"X-Error-Code": "EntryNotFound" if commit else "RevisionNotFound"}
            )
            return
        data = commit.files[name]
        self.reply(
            200,
            data,
            {
                "ETag": f'"{blob(data)}"',
                "X-Repo-Commit": commit.sha,
                "Content-Type": "application/octet-stream",
            },
        )

    def api(self, parts: list[str], body: bytes) -> None:
        if parts == [""] or parts[0] == "revision":
            self.reply(
                200,
                {
                    "id": REPOSITORY,
                    "sha": self.hub.commits[-1].sha,
                    "private": self.hub.private,
                    "siblings": [],
                    "tags": [],
                },
            )
        elif parts[0] == "tree":
            commit = self.at(parts[1])
            self.reply(
                200,
                [
                    {"type": "file", "path": n, "size": len(d), "oid": blob(d)}
                    for n, d in commit.files.items()
                ],
            )
        elif parts[0] == "preupload":
            self.reply(
                200,
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for f in json.loads(body)["files"]
                    ]
                },
            )
        elif parts[0] == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            if lines[0]["value"].get("parentCommit", self.hub.commits[-1].sha) != self.hub.commits[-1].sha:
                self.reply(412, {"error": "A commit has happened since. Please refresh and try again."})
                return
            assert all(line["key"] == "file" for line in lines[1:])
            made = self.hub.commit(
                self.hub.files
                | {x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines[1:]}
            )
            self.reply(
                200,
                {
                    "commitUrl": f"{self.hub.address}/datasets/{REPOSITORY}/commit/{made.sha}",
                    "commitOid": made.sha,
                },
            )
        elif parts[0] == "super-squash":
            files = self.hub.files
            self.hub.commits.clear()
            self.hub.commit(files)
            self.reply(200, {})
        else:
            self.reply(404, {"error": f"the stand-in does not know {parts}"})


def blob(data: bytes) -> str:
    """Git's name of a file's contents."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A hub that answers at ``address`` within the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
