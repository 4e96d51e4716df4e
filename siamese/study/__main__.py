"""``python -m siamese.study``: make studies, invite raters, serve them, report results, export and import answers.

Free of torch, which only ``create --sample`` and ``demo`` load.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from siamese.study.answers.export import answers_csv, answers_json, read_answers
from siamese.study.answers.import_answers import import_study
from siamese.study.config import DEFAULT_CONSENT, REAL, SYNTHETIC, ConfigError, Method, StudyConfig
from siamese.study.creation.demo import Demonstration, make_demo
from siamese.study.creation.generated import Report as SamplingReport
from siamese.study.creation.generated import create_sampled_study, parse_all
from siamese.study.creation.service import count_groups, create_study
from siamese.study.protocols import protocol_names
from siamese.study.report.results import read_results
from siamese.study.storage.database import StorageError
from siamese.study.storage.location import data_directory, note_address, noted_address
from siamese.study.storage.opening import open_store
from siamese.study.storage.store import StudyError, StudyStore
from siamese.study.storage.text_findings import text_warning
from siamese.study.web.app import study_app
from siamese.study.web.pages import report_html
from siamese.study.web.security import HEADERS
from siamese.web.access import Access, AccessError
from siamese.web.hosts import is_local
from siamese.web.listen import ListenError
from siamese.web.serving import WebServer
from siamese.web.settings import SetupError
from siamese.web.space import origin

if TYPE_CHECKING:
    ProtocolName = str
else:
    ProtocolName = tyro.extras.literal_type_from_choices(protocol_names())
PORT = 8600
"""Where ``serve`` serves."""
EMBEDDED_MODEL = Path(__file__).resolve().parents[2] / "assets" / "siamese-tiny"
"""The repository's model, which ``demo`` samples where no other is named."""


@dataclass(frozen=True)
class Place:
    """Where studies are kept."""

    data: Path | None = None
    """Data directory; SIAMESE_STUDY_DATA or the platform's place for data where not given. Not in the working directory."""
    database: str | None = None
    """PostgreSQL URL; SIAMESE_STUDY_DATABASE, or SQLite in the data directory, where not given."""

    def store(self) -> StudyStore:
        """The studies there."""
        return open_store(data_directory(self.data), self.database)


@dataclass(frozen=True)
class Create:
    """Make a study from a folder that holds one folder of images per method; files of one name (without suffix) share a mask.

    Further methods can be sampled from checkpoints now, never while raters rate: --masks FOLDER --sample NAME=MODEL.
    """

    images: tyro.conf.Positional[Path]
    """Folder of the methods' folders; their names become the methods' names. A folder of masks may lie among them, see --masks."""
    id: str
    """Short name: lower-case letters, digits, hyphens."""
    title: str
    """Raters see it."""
    protocol: ProtocolName = protocol_names()[0]
    """How images are shown and judged: real or synthetic one at a time, a ranking side by side, or which of two is real."""
    organ: str = "polyp"
    """What the images show: polyp, lesion, ... Sampled images need one of these two, or --prompt."""
    sample: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A method to sample of the chosen masks: NAME=MODEL or NAME=MODEL:steps=50,guidance=2,scheduler=ddim,guide=prompt, where MODEL is a
    folder or a model on the Hugging Face Hub. What is not set is the model's default. Can be given several times."""
    masks: Path | None = None
    """Folder of the masks to sample, named as the images."""
    prompt: str | None = None
    """Prompt to sample with; follows from the organ where not given."""
    real: tuple[str, ...] = ("real",)
    """Names of the folders of real images."""
    groups: int | None = None
    """Mask groups to rate; all that every method has where not given."""
    training: int = 0
    """Items with feedback before the first."""
    repeats: int = 0
    """Items shown twice."""
    share_known: bool = False
    """Tell raters the share of real images."""
    comments: bool = True
    """Let raters comment."""
    instructions: Path | None = None
    """Text file; the protocol's own text where not given."""
    consent: Path | None = None
    """Text file; a short text where not given."""
    display_side: int = 512
    """Longer side of the images in pixels."""
    seed: int = 0
    """Chooses the groups, and the noise of sampled images."""
    draft: bool = False
    """Do not open the study to raters yet."""
    accept_loss: bool = False
    """Open it although storage may not last, as on a Space without a volume."""
    accept_text: bool = False
    """Open it although text is burned into real images, which may name patients and tells what is real. Without this and without
    --draft nothing is made of such images; a draft asks when it is opened."""
    place: Annotated[Place, tyro.conf.arg(name="")] = field(default_factory=Place)

    def run(self) -> None:
        """Make it and say what was made."""
        if not self.images.is_dir():
            raise ConfigError([f"{self.images}: there is no such folder."])
        folders = {
            f.name: f for f in sorted(self.images.iterdir()) if f.is_dir() and not f.name.startswith(".")
        }
        sampled = parse_all(self.sample)
        if bool(sampled) != (self.masks is not None):
            raise ConfigError(
                [
                    "--sample needs the masks: give --masks FOLDER."
                    if sampled
                    else "--masks is for sampled methods: give --sample."
                ]
            )
        if sampled:
            if not self.masks.is_dir():
                raise ConfigError([f"--masks {self.masks}: there is no such folder."])
            folders = {name: f for name, f in folders.items() if f.resolve() != self.masks.resolve()}
        missing = [
            f"--real {name}: {self.images} has no folder of that name; where nothing is real, give --real without names."
            for name in self.real
            if name not in folders
        ]
        if missing:
            raise ConfigError(missing)
        config = StudyConfig(
            self.id,
            self.title,
            self.protocol,
            self.organ,
            tuple(Method(n, REAL if n in self.real else SYNTHETIC) for n in folders)
            + tuple(Method(s.name, SYNTHETIC) for s in sampled),
            self.groups or 1,
            self.training,
            0 if self.groups is None else self.repeats,
            self.share_known,
            self.comments,
            self.instructions.read_text(encoding="utf-8") if self.instructions else "",
            self.consent.read_text(encoding="utf-8") if self.consent else DEFAULT_CONSENT,
            self.display_side,
            self.seed,
        )
        folders |= {s.name: self.masks for s in sampled}
        if self.groups is None:
            values = count_groups(config, folders).to_dict() | {
                "repeats": self.repeats,
                "methods": config.methods,
            }
            config = StudyConfig(**values)
        store = self.place.store()
        if not self.draft:
            store.check_loss(self.accept_loss)  # before minutes of work
        refuse = not (self.draft or self.accept_text)
        study = (
            create_sampled_study(store, config, folders, sampled, self.prompt, sampling_report(), refuse)
            if sampled
            else create_study(store, config, folders, refuse_text=refuse)
        )
        if not self.draft:
            store.open(config.id, self.accept_loss, self.accept_text)
        elif names := [one.name for one in store.texts(config.id)]:
            print(f"warning: {text_warning(names, 'the study is a draft.')}", file=sys.stderr)
        print(
            f"{config.id}: {config.groups} groups of {len(config.methods)} methods, {config.rated} items a rater"
            f"{f' after {config.training} for practice' if config.training else ''}. Configuration {study.config_hash[:12]}.\n"
            f'Next: python -m siamese.study invite {config.id} "Dr A" "Dr B"'
        )


def sampling_report() -> SamplingReport:
    """Prints a line for each batch, with the time that the method's other images will take."""
    began: dict[str, float] = {}

    def report(method: str, done: int, total: int) -> None:
        now = time.monotonic()
        spent = now - began.setdefault(method, now)
        left = f", about {spent / done * (total - done):.0f} s left" if 0 < done < total else ""
        print(f"{method}: {done} of {total} images sampled{left}", flush=True)

    return report


@dataclass(frozen=True)
class Invite:
    """Make a personal link for each rater. A link is shown once: only its hash is stored."""

    study: tyro.conf.Positional[str]
    """The study's id."""
    labels: tyro.conf.Positional[tuple[str, ...]]
    """Whom each link is for; only administrators see it."""
    address: str | None = None
    """Where raters reach the server; where not given, the address that the studies are served at, or were last."""
    place: Annotated[Place, tyro.conf.arg(name="")] = field(default_factory=Place)

    def run(self) -> None:
        """Print a line for each: label, tab, link."""
        address = (
            self.address
            or origin()
            or noted_address(data_directory(self.place.data))
            or f"http://127.0.0.1:{PORT}"
        ).rstrip("/")
        for made in self.place.store().invite(self.study, self.labels):
            print(f"{made.label}\t{address}{made.path}")
        if is_local(address):
            print(
                f"These links work in browsers on this machine only ({address}). For others give --address with the one that they use.",
                file=sys.stderr,
            )


@dataclass(frozen=True)
class Serve:
    """Serve the studies alone, without the studio."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all networks."""
    port: int = PORT
    """Port to listen on."""
    access: Annotated[Access, tyro.conf.arg(name="")] = field(default_factory=Access)
    place: Annotated[Place, tyro.conf.arg(name="")] = field(default_factory=Place)

    def run(self) -> None:
        """Serve until interrupted."""
        server = WebServer(self.host, self.port, self.access)
        app = study_app(self.place.data, self.place.database)
        note_address(data_directory(self.place.data), server.address)
        server.run(app, HEADERS, f"Rating studies are at {server.address}/study/admin")


@dataclass(frozen=True)
class Demo:
    """Make a small study to try, print a link to rate it, and serve it until interrupted.

    With --real, real images against the model's; without, two settings of the model side by side.
    """

    real: Path | None = None
    """Folder of real images, or a folder with images/ and masks/ as for training."""
    masks: Path | None = None
    """Folder of the real images' masks, named as the images. Random lesions are sampled where the images have none."""
    model: str = str(EMBEDDED_MODEL)
    """Model folder, or a model of the same layout on the Hugging Face Hub (owner/name)."""
    organ: Literal["polyp", "lesion"] = "polyp"
    """What the images show."""
    groups: int = 6
    """Masks."""
    accept_text: bool = False
    """Show the real images although text is burned into some, which may name patients and tells what is real."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all networks."""
    port: int = 0
    """Port to listen on; a free one where 0."""
    access: Annotated[Access, tyro.conf.arg(name="")] = field(default_factory=Access)
    place: Annotated[Place, tyro.conf.arg(name="")] = field(default_factory=Place)

    def run(self) -> None:
        """Make it, print the link, serve."""
        server = WebServer(self.host, self.port, self.access)  # before the long part
        store = self.place.store()
        if warning := store.warning():
            print(warning, flush=True)
        print("Loading the model ...", flush=True)
        wanted = Demonstration(
            self.model, self.organ, self.groups, self.real, self.masks, accept_text=self.accept_text
        )
        study = make_demo(store, wanted, sampling_report()).config
        (made,) = store.invite(study.id, ["demonstration"])
        app, address = study_app(self.place.data, self.place.database), server.address
        note_address(data_directory(self.place.data), address)
        server.run(
            app,
            HEADERS,
            f"{study.id}: {study.rated} items. Rate at\n\n    {address}{made.path}\n\nStudies and results: {address}/study/admin",
        )


@dataclass(frozen=True)
class Export:
    """Write a study's raw answers."""

    study: tyro.conf.Positional[str]
    """The study's id."""
    out: tyro.conf.Positional[Path]
    """File to write: .csv or .json."""
    pseudonyms: bool = False
    """Include the raters' pseudonyms; else raters are numbered."""
    place: Annotated[Place, tyro.conf.arg(name="")] = field(default_factory=Place)

    def run(self) -> None:
        """Write the file and say how many answers it holds."""
        if self.out.suffix not in (".csv", ".json"):
            raise SetupError(f"{self.out}: name a file that ends in .csv or .json.")
        store = self.place.store()
        given = read_answers(store, self.study)
        text = (
            answers_csv(given, self.pseudonyms)
            if self.out.suffix == ".csv"
            else answers_json(store, given, self.pseudonyms)
        )
        self.out.write_text(text, encoding="utf-8-sig" if self.out.suffix == ".csv" else "utf-8", newline="")
        print(f"{self.out}: {len(given.answers)} answers")


@dataclass(frozen=True)
class Import:
    """Read a study's JSON export into a database that does not have it, for its results. Images are not in exports."""

    file: tyro.conf.Positional[Path]
    """What export wrote: .json."""
    place: Annotated[Place, tyro.conf.arg(name="")] = field(default_factory=Place)

    def run(self) -> None:
        """Store it and say what was stored."""
        try:
            text = self.file.read_bytes()
        except OSError as error:
            raise SetupError(f"{self.file} cannot be read ({error.strerror}).") from error
        store = self.place.store()
        study = import_study(store, text).config.id
        print(
            f"{study}: {len(read_answers(store, study).answers)} answers\nNext: python -m siamese.study report --study {study} --out {study}.html"
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
    place: Annotated[Place, tyro.conf.arg(name="")] = field(default_factory=Place)

    def run(self) -> None:
        """Write the file and say whose answers its figures are of."""
        results = read_results(self.place.store(), self.study, self.raters)
        html = report_html(results)
        try:
            self.out.write_text(html, encoding="utf-8")
        except OSError as error:
            raise SetupError(f"{self.out} cannot be written ({error.strerror}).") from error
        print(
            "\n".join(
                [
                    f"{self.out}: {len(html.encode('utf-8')) // 1024} KiB",
                    *results.who,
                    *([results.missing] if results.missing else []),
                ]
            )
        )


@dataclass(frozen=True)
class Open:
    """Let raters begin, or go on after close."""

    study: tyro.conf.Positional[str]
    """The study's id."""
    accept_loss: bool = False
    """Open it although storage may not last, as on a Space without a volume."""
    accept_text: bool = False
    """Open it although text is burned into real images: each was looked at."""
    place: Annotated[Place, tyro.conf.arg(name="")] = field(default_factory=Place)

    def run(self) -> None:
        """Open it."""
        self.place.store().open(self.study, self.accept_loss, self.accept_text)
        print(f"{self.study}: open")


@dataclass(frozen=True)
class Close:
    """Take no more answers. Links keep working for withdrawal."""

    study: tyro.conf.Positional[str]
    """The study's id."""
    place: Annotated[Place, tyro.conf.arg(name="")] = field(default_factory=Place)

    def run(self) -> None:
        """Close it."""
        self.place.store().close(self.study)
        print(f"{self.study}: closed")


Commands = (
    Annotated[Create, tyro.conf.subcommand("create")]
    | Annotated[Invite, tyro.conf.subcommand("invite")]
    | Annotated[Serve, tyro.conf.subcommand("serve")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Open, tyro.conf.subcommand("open")]
    | Annotated[Close, tyro.conf.subcommand("close")]
)


def main(arguments: list[str] | None = None) -> None:
    """Run one command; an error that the user can mend is a message and exit status 1."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    command = tyro.cli(Commands, args=arguments, description=__doc__, config=(tyro.conf.OmitArgPrefixes,))
    try:
        command.run()
    except (AccessError, ConfigError, ListenError, SetupError, StorageError, StudyError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt as error:
        print("interrupted.", file=sys.stderr)
        raise SystemExit(130) from error


if __name__ == "__main__":
    main()
