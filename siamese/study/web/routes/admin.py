"""The administrator's pages. Every route but the log-in asks for the session first; every change for the form's token as well."""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, File, Form, Request, Response, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import AfterValidator

from siamese.study.answers.export import answers_csv, answers_json, read_answers
from siamese.study.answers.import_answers import import_study
from siamese.study.answers.raters import COMPLETE
from siamese.study.config import DEFAULT_CONSENT, REAL, SYNTHETIC, ConfigError, Method, StudyConfig
from siamese.study.creation.generated import Turn, create_sampled_study, parse_all
from siamese.study.creation.service import count_groups, create_study
from siamese.study.report.results import read_results
from siamese.study.storage.opening import OpenedStudies
from siamese.study.storage.store import StudyError
from siamese.study.web.archive import unpack
from siamese.study.web.attempts import TooManyAttemptsError
from siamese.study.web.auth import (
    COOKIE,
    SESSION_SECONDS,
    Administrator,
    ForgedRequestError,
    NotLoggedInError,
)
from siamese.study.web.oauth import (
    STATE_COOKIE,
    STATE_SECONDS,
    HuggingFaceLogin,
    NotAnAdministratorError,
    ProviderError,
    oauth_settings,
)
from siamese.study.web.pages import report_html, results_values, templates
from siamese.study.web.request_limits import CALLBACK, HOME, LOGIN, MAX_UPLOAD_BYTES, Gate
from siamese.study.web.security import install_errors, refusal, storable
from siamese.study.web.threads import ADMINISTRATORS
from siamese.web.inputs import CheckedInput
from siamese.web.space import origin

Choice = Literal["complete", "all"]
"""Raters whose answers count, as ``siamese.study.answers.raters`` names them."""
Text = Annotated[str, Form(max_length=20_000), AfterValidator(storable)]
REFUSED = {
    NotLoggedInError: 401,
    ForgedRequestError: 403,
    NotAnAdministratorError: 403,
    TooManyAttemptsError: 429,
    ProviderError: 502,
}
"""HTTP status of what is answered with the page to log in."""


def install_admin(app: FastAPI, studies_here: OpenedStudies, turn: Turn = nullcontext) -> None:
    """Put the administrator's pages on ``app``. Images are sampled in ``turn``.

    Raises:
        SetupError: the environment names users, and something for their log-in is missing.
    """
    store, folder, durability = studies_here.store, studies_here.folder, studies_here.durability
    settings, pages = oauth_settings(CALLBACK), templates()
    administrator = Administrator(folder, users=settings.users if settings else ())
    by_hub = HuggingFaceLogin(settings, administrator.key) if settings else None

    def page(
        name: str,
        title: str,
        status: int = 200,
        csrf: str | None = None,
        message: str | None = None,
        **values: Any,
    ) -> HTMLResponse:
        return HTMLResponse(
            pages.get_template(name).render(title=title, csrf=csrf, message=message, **values), status
        )

    def login_form(status: int = 200, message: str | None = None) -> HTMLResponse:
        return page(
            "login.html",
            "Log in",
            status,
            message=message,
            password=administrator.has_password,
            huggingface=by_hub is not None,
        )

    async def login_again(request: Request, error: Exception) -> Response:
        response = login_form(REFUSED[type(error)], str(error))
        if isinstance(error, TooManyAttemptsError):
            response.headers["Retry-After"] = str(error.seconds)
        return response

    def told(request: Request, error: Exception, status: int) -> Response:
        return page(
            "message.html", "This was not done", status, message=getattr(error, "detail", None) or str(error)
        )

    def at_the_gate(request: Request, error: Exception) -> Response:
        return (
            login_form(401, str(error))
            if isinstance(error, NotLoggedInError)
            else refusal(request, error, told)
        )

    for kind in REFUSED:
        app.add_exception_handler(kind, login_again)
    install_errors(app, told)
    app.add_middleware(CheckedInput, refuse=at_the_gate)
    app.add_middleware(Gate, administrator=administrator, refuse=at_the_gate)

    def logged_in(request: Request) -> None:
        request.state.session = administrator.session(request.cookies.get(COOKIE))

    def allowed(request: Request, csrf: Annotated[str, Form(max_length=200)] = "") -> None:
        logged_in(request)
        administrator.check_csrf(request.state.session, csrf)

    options: dict[str, Any] = {
        "prefix": HOME,
        "include_in_schema": False,
        "route_class": ADMINISTRATORS.route,
    }
    public = APIRouter(**options)
    read = APIRouter(**options, dependencies=[Depends(ADMINISTRATORS.beside(logged_in))])
    change = APIRouter(**options, dependencies=[Depends(ADMINISTRATORS.beside(allowed))])

    def encrypted(request: Request) -> bool:
        return request.url.scheme == "https" or origin() is not None

    def let_in(request: Request, response: Response, cookie: str) -> Response:
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            path="/study",
            secure=encrypted(request),
        )
        return response

    def address_of(request: Request) -> str:
        return request.client.host if request.client else ""

    @public.get("/login")
    def login_page() -> Response:
        return login_form()

    @public.post("/login")
    def login(request: Request, password: Annotated[str, Form(max_length=2000)]) -> Response:
        return let_in(
            request, RedirectResponse(HOME, 303), administrator.log_in(password, address_of(request))
        )

    def hub_login() -> HuggingFaceLogin:
        if by_hub is None:
            raise NotLoggedInError("log-in by Hugging Face is not set up here; use the password.")
        return by_hub

    @public.get("/login/huggingface")
    def to_the_hub(request: Request) -> Response:
        address, cookie = hub_login().begin()
        response = RedirectResponse(address, 303)
        # Not strict: the browser comes back from another site.
        response.set_cookie(
            STATE_COOKIE,
            cookie,
            max_age=STATE_SECONDS,
            httponly=True,
            samesite="lax",
            path=LOGIN,
            secure=encrypted(request),
        )
        return response

    @public.get("/login/huggingface/callback")
    def from_the_hub(request: Request) -> Response:
        hub_login().finish(request.query_params, request.cookies.get(STATE_COOKIE), address_of(request))
        # A page and no redirect: the browser would not send the strict cookie where another site sent it.
        response = let_in(request, page("welcome.html", "Logged in"), administrator.new_session())
        response.delete_cookie(STATE_COOKIE, path=LOGIN)
        return response

    @change.post("/logout")
    def logout(request: Request) -> Response:
        administrator.log_out(request.state.session)
        response = RedirectResponse(f"{HOME}/login", 303)
        response.delete_cookie(COOKIE, path="/study")
        return response

    def csrf_of(request: Request) -> str:
        return administrator.csrf(request.state.session)

    def list_page(request: Request, message: str | None = None, status: int = 200) -> Response:
        return page(
            "studies.html",
            "Studies",
            status,
            csrf_of(request),
            message,
            studies=store.studies(),
            consent=DEFAULT_CONSENT,
            most=MAX_UPLOAD_BYTES // 2**20,
            copy=durability.report() if durability else None,
        )

    def study_page(request: Request, study: str, links: list = ()) -> Response:
        found = store.study(study)
        return page(
            "study.html",
            found.config.title,
            200,
            csrf_of(request),
            study=found,
            raters=store.progress(study),
            links=links,
            texts=store.texts(study),
            text_accepted=store.text_accepted(study),
            withdrawals=store.withdrawals(study),
            warning=store.warning(),
            origin=origin() or f"{request.url.scheme}://{request.url.netloc}",
        )

    @read.get("")
    def studies(request: Request) -> Response:
        return list_page(request)

    @read.get("/studies/{study}")
    def one(request: Request, study: str) -> Response:
        return study_page(request, study)

    @read.get("/studies/{study}/text/{item}.jpg")
    def text_image(study: str, item: str) -> Response:
        return Response(store.thumbnail(study, item), media_type="image/jpeg")

    @read.get("/studies/{study}/results")
    def results(request: Request, study: str, raters: Choice = COMPLETE) -> Response:
        found = read_results(store, study, raters)
        return page(
            "results.html",
            f"Results: {found.study.config.title}",
            200,
            csrf_of(request),
            **results_values(found),
        )

    @read.get("/studies/{study}/report.html")
    def report(study: str, raters: Choice = COMPLETE) -> Response:
        return download(
            report_html(read_results(store, study, raters)).encode("utf-8"),
            "text/html; charset=utf-8",
            f"{study}.html",
        )

    @read.get("/studies/{study}/answers.csv")
    def as_csv(study: str) -> Response:
        return download(
            answers_csv(read_answers(store, study)).encode("utf-8-sig"),
            "text/csv; charset=utf-8",
            f"{study}.csv",
        )

    @read.get("/studies/{study}/answers.json")
    def as_json(study: str) -> Response:
        return download(
            answers_json(store, read_answers(store, study)).encode("utf-8"),
            "application/json",
            f"{study}.json",
        )

    @change.post("/create")
    def create(
        request: Request,
        id: Text,
        title: Text,
        protocol: Text,
        organ: Text,
        groups: Annotated[int, Form()],
        real: Text = "",
        training: Annotated[int, Form()] = 0,
        repeats: Annotated[int, Form()] = 0,
        seed: Annotated[int, Form()] = 0,
        share_known: Text = "",
        comments: Text = "",
        instructions: Text = "",
        consent: Text = DEFAULT_CONSENT,
        folder: Text = "",
        masks: Text = "",
        sample: Text = "",
        archive: Annotated[UploadFile | None, File()] = None,
    ) -> Response:
        try:
            with tempfile.TemporaryDirectory(prefix="study-") as space:
                sampled = parse_all([line for line in sample.splitlines() if line.strip()])
                folders = source(archive, folder, Path(space))
                drawn = take_masks(folders, masks.strip(), bool(sampled))
                reals = {name.strip() for name in real.split(",") if name.strip()}
                methods = [Method(n, REAL if n in reals else SYNTHETIC) for n in folders] + [
                    Method(s.name, SYNTHETIC) for s in sampled
                ]
                config = StudyConfig(
                    id,
                    title,
                    protocol,
                    organ,
                    tuple(methods),
                    groups or 1,
                    training,
                    repeats if groups else 0,
                    bool(share_known),
                    bool(comments),
                    instructions,
                    consent,
                    seed=seed,
                )
                folders |= {s.name: drawn for s in sampled}
                if not groups:
                    config = dataclasses.replace(count_groups(config, folders), repeats=repeats)
                if sampled:
                    create_sampled_study(store, config, folders, sampled, turn=turn)
                else:
                    create_study(store, config, folders)
        except (ConfigError, StudyError) as error:
            return list_page(request, str(error), 422)
        return RedirectResponse(f"{HOME}/studies/{id}", 303)

    @change.post("/import")
    def import_file(request: Request, export: Annotated[UploadFile, File()]) -> Response:
        try:
            study = import_study(store, export.file.read())
        except (ConfigError, StudyError) as error:
            return list_page(request, str(error), 422)
        return RedirectResponse(f"{HOME}/studies/{study.config.id}/results", 303)

    @change.post("/studies/{study}/open")
    def open_study(study: str, accept_loss: Text = "", accept_text: Text = "") -> Response:
        store.open(study, bool(accept_loss), bool(accept_text))
        return RedirectResponse(f"{HOME}/studies/{study}", 303)

    @change.post("/studies/{study}/close")
    def close_study(study: str) -> Response:
        store.close(study)
        return RedirectResponse(f"{HOME}/studies/{study}", 303)

    @change.post("/studies/{study}/invite")
    def invite(request: Request, study: str, labels: Text) -> Response:
        return study_page(
            request, study, store.invite(study, [x.strip() for x in labels.splitlines() if x.strip()])
        )

    @change.post("/raters/{rater}/{action}")
    def rater(rater: str, action: str, study: Text, reason: Text = "", sure: Text = "") -> Response:
        if action == "withdraw" and not sure:
            raise StudyError("nothing was deleted: it was not confirmed.")
        actions = {
            "revoke": lambda: store.revoke(rater),
            "exclude": lambda: store.exclude(rater, reason),
            "include": lambda: store.exclude(rater, None),
            "withdraw": lambda: store.withdraw(rater),
        }
        if action not in actions:
            raise StudyError(f"there is no action {action!r}.")
        actions[action]()
        return RedirectResponse(f"{HOME}/studies/{store.study(study).config.id}", 303)

    for router in (public, read, change):
        app.include_router(router)


def source(archive: UploadFile | None, folder: str, space: Path) -> dict[str, Path]:
    """Methods' folders from an upload, unpacked to ``space``, or from a folder on the server."""
    if archive is not None and archive.filename:
        return unpack(archive.file, space)
    try:
        if folder.strip() and Path(folder.strip()).is_dir():
            return {
                f.name: f
                for f in sorted(Path(folder.strip()).iterdir())
                if f.is_dir() and not f.name.startswith(".")
            }
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise ConfigError([f"the folder on the server cannot be read ({error.strerror})."]) from error
    raise ConfigError(["choose a ZIP file, or name a folder on the server that exists."])


def take_masks(folders: dict[str, Path], name: str, needed: bool) -> Path | None:
    """Remove the folder of masks from ``folders`` and return it; None where nothing is sampled.

    Raises:
        ConfigError: it is needed and not there, or named without need.
    """
    if needed and name not in folders:
        raise ConfigError(
            [
                f"sampling needs masks: there is no folder {name!r} beside the methods' folders."
                if name
                else "sampling needs masks: name their folder beside the methods' folders."
            ]
        )
    if name and not needed:
        raise ConfigError(["a folder of masks is named, but no method to sample."])
    return folders.pop(name) if needed else None


def download(data: bytes, kind: str, name: str) -> Response:
    """A file to save; study ids are safe in a header."""
    return Response(data, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
