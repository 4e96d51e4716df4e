"""A rater's requests. Functions are not ``async``: they run in the raters' threads, so that the database blocks nobody and nobody blocks them.

Nothing here tells the source of an image: ids are random, all images have the same headers and length.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from siamese.study.rating.errors import NoSuchLinkError
from siamese.study.rating.judgement import Judgement
from siamese.study.rating.steps import RatingStep, Task
from siamese.study.statistics.table import CONFIDENCES
from siamese.study.web.dependencies import Services, Sessions
from siamese.study.web.security import static_file
from siamese.study.web.threads import RATERS

Token = Annotated[str, Path(max_length=100)]
ItemId = Annotated[str, Path(max_length=64)]


class RegistrationRequest(BaseModel):
    """Who rates."""

    model_config = ConfigDict(extra="forbid")
    pseudonym: StrictStr = Field(max_length=200)
    role: StrictStr = Field(max_length=200)
    consent: StrictBool


class AnswerRequest(BaseModel):
    """One answer; see ``siamese.study.rating.judgement.Judgement``."""

    model_config = ConfigDict(extra="forbid")
    task: StrictStr = Field(max_length=64)
    key: StrictStr = Field(max_length=64)
    response: dict[str, Any]
    confidence: StrictInt | None = None
    comment: StrictStr = Field("", max_length=4000)
    client_ms: StrictInt | None = None
    correction: StrictBool = False


class WithdrawalRequest(BaseModel):
    """A wish to be deleted."""

    model_config = ConfigDict(extra="forbid")
    confirm: StrictBool


router = APIRouter(include_in_schema=False, route_class=RATERS.route)


@router.get("/study-static/{name:path}")
def static(services: Services, name: str) -> Response:
    """A file of the page itself, or a protocol's script."""
    if name not in services.files.static:
        raise NoSuchLinkError("there is no such file.")
    return static_file(*services.files.static[name])


@router.get("/rate/{token}")
def rater_page(services: Services, token: Token) -> Response:
    """The page, the same for everyone; its script asks for the rest."""
    return Response(services.files.page, media_type="text/html")


@router.get("/rate/{token}/api/state")
def state(sessions: Sessions, token: Token) -> dict[str, Any]:
    """The study and the rater's current screen."""
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
        "duration": asdict(found.duration) if found.duration else None,
        "registered": found.registered,
        "pseudonym": found.pseudonym,
        "step": step_json(found.step),
    }


@router.post("/rate/{token}/api/register")
def register_rater(sessions: Sessions, token: Token, given: RegistrationRequest) -> dict[str, Any]:
    """Begin, or begin again."""
    return {"step": step_json(sessions.register(token, given.pseudonym, given.role, given.consent))}


@router.post("/rate/{token}/api/answer")
def answer(sessions: Sessions, token: Token, given: AnswerRequest) -> dict[str, Any]:
    """Store an answer."""
    judgement = Judgement(given.response, given.confidence, given.comment, given.client_ms)
    done = sessions.answer(
        token,
        presentation=given.task,
        key=given.key,
        judgement=judgement,
        correction=given.correction,
    )
    return {"saved": True, "step": step_json(done.step), "feedback": done.feedback}


@router.get("/rate/{token}/api/previous")
def previous(sessions: Sessions, token: Token) -> dict[str, Any]:
    """The last answer, to correct it."""
    task, given = sessions.previous(token)
    return {
        "task": task_json(task),
        "response": given.response,
        "confidence": given.confidence,
        "comment": given.comment,
    }


@router.get("/rate/{token}/image/{item}")
def image(sessions: Sessions, token: Token, item: ItemId) -> Response:
    """An image of the current screen or the next."""
    return Response(sessions.image(token, item), media_type="image/png")


@router.post("/rate/{token}/api/withdraw")
def withdraw(sessions: Sessions, token: Token, given: WithdrawalRequest) -> dict[str, Any]:
    """Delete everything of the rater."""
    if not given.confirm:
        raise NoSuchLinkError("nothing was deleted: it was not confirmed.")
    return {"deleted": sessions.withdraw(token)}


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
    """The rater's current screen, for the page."""
    if step is None:
        return None
    return {
        "task": task_json(step.task) if step.task else None,
        "upcoming": list(step.upcoming),
        "can_go_back": step.can_go_back,
    }
