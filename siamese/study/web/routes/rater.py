"""A rater's requests. Functions are not ``async``: they run in the raters' threads, so that the database blocks nobody and nobody blocks them.

Nothing here says where an image comes from: ids are random, all images have the same headers and length.
"""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from siamese.study.rating.errors import NoSuchLinkError
from siamese.study.rating.judgement import Judgement
from siamese.study.rating.session import RaterSessions
from siamese.study.rating.steps import RatingStep, Task
from siamese.study.statistics.table import CONFIDENCES
from siamese.study.web.pages import rating_page
from siamese.study.web.protocol_files import scripts
from siamese.study.web.security import static_file
from siamese.study.web.threads import RATERS

Token = Annotated[str, Path(max_length=100)]
ItemId = Annotated[str, Path(max_length=64)]
STATIC = {
    "rate.js": "text/javascript",
    "controls.js": "text/javascript",
    "rate.css": "text/css",
    "admin.css": "text/css",
    "icon.svg": "image/svg+xml",
}


class Registration(BaseModel):
    """Who rates."""

    model_config = ConfigDict(extra="forbid")
    pseudonym: StrictStr = Field(max_length=200)
    role: StrictStr = Field(max_length=200)
    consent: StrictBool


class GivenAnswer(BaseModel):
    """One answer; see ``siamese.study.rating.judgement.Judgement``."""

    model_config = ConfigDict(extra="forbid")
    task: StrictStr = Field(max_length=64)
    key: StrictStr = Field(max_length=64)
    response: dict[str, Any]
    confidence: StrictInt | None = None
    comment: StrictStr = Field("", max_length=4000)
    client_ms: StrictInt | None = None
    correction: StrictBool = False


class Withdrawal(BaseModel):
    """A wish to be deleted."""

    model_config = ConfigDict(extra="forbid")
    confirm: StrictBool


def rater_router(sessions: RaterSessions) -> APIRouter:
    """Routes under ``/rate/`` and ``/study-static/``; in no schema."""
    router = APIRouter(include_in_schema=False, route_class=RATERS.route)
    web = resources.files("siamese.study.web")
    shell = rating_page()
    files = {name: ((web / "static" / name).read_bytes(), kind) for name, kind in STATIC.items()}
    files |= {name: (script, STATIC["rate.js"]) for name, script in scripts().items()}

    @router.get("/study-static/{name:path}")
    def static(name: str) -> Response:
        if name not in files:
            raise NoSuchLinkError("there is no such file.")
        return static_file(*files[name])

    @router.get("/rate/{token}")
    def page(token: Token) -> Response:
        return Response(shell, media_type="text/html")  # the same for everyone; its script asks for the rest

    @router.get("/rate/{token}/api/state")
    def state(token: Token) -> dict[str, Any]:
        found = sessions.overview(token)
        config = found.config
        return {
            "title": config.title,
            "protocol": config.protocol,
            "instructions": config.instructions,
            "consent": config.consent,
            "comments": config.comments,
            "confidence": list(CONFIDENCES),
            "training": config.training,
            "total": config.rated,
            "images": config.rules.images_per_screen(config.methods),
            "share": config.rules.share_of_real(config.methods) if config.share_known else None,
            "registered": found.registered,
            "pseudonym": found.pseudonym,
            "step": step_json(found.step),
        }

    @router.post("/rate/{token}/api/register")
    def register(token: Token, given: Registration) -> dict[str, Any]:
        return {"step": step_json(sessions.register(token, given.pseudonym, given.role, given.consent))}

    @router.post("/rate/{token}/api/answer")
    def answer(token: Token, given: GivenAnswer) -> dict[str, Any]:
        judgement = Judgement(given.response, given.confidence, given.comment, given.client_ms)
        done = sessions.answer(token, given.task, given.key, judgement, given.correction)
        return {"saved": True, "step": step_json(done.step), "feedback": done.feedback}

    @router.get("/rate/{token}/api/previous")
    def previous(token: Token) -> dict[str, Any]:
        task, given = sessions.previous(token)
        return {
            "task": task_json(task),
            "response": given.response,
            "confidence": given.confidence,
            "comment": given.comment,
        }

    @router.get("/rate/{token}/image/{item}")
    def image(token: Token, item: ItemId) -> Response:
        return Response(sessions.image(token, item), media_type="image/png")

    @router.post("/rate/{token}/api/withdraw")
    def withdraw(token: Token, given: Withdrawal) -> dict[str, Any]:
        if not given.confirm:
            raise NoSuchLinkError("nothing was deleted: it was not confirmed.")
        return {"deleted": sessions.withdraw(token)}

    return router


def task_json(task: Task) -> dict[str, Any]:
    """A screen for the page."""
    return {
        "id": task.id,
        "number": task.number,
        "total": task.total,
        "training": task.training,
        "items": list(task.items),
    }


def step_json(step: RatingStep | None) -> dict[str, Any] | None:
    """Where the rater is, for the page."""
    if step is None:
        return None
    return {
        "task": task_json(step.task) if step.task else None,
        "upcoming": list(step.upcoming),
        "can_go_back": step.can_go_back,
    }
