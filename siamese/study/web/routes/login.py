"""Logging in and out: by the administrator's password, or as a named user of Hugging Face."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form, Request, Response
from fastapi.responses import RedirectResponse

from siamese.study.web.auth import COOKIE, SESSION_SECONDS, NotLoggedInError
from siamese.study.web.dependencies import (
    Services,
    Session,
    StudyServices,
    change_router,
    public_router,
)
from siamese.study.web.login_form import login_form
from siamese.study.web.oauth import STATE_COOKIE, STATE_SECONDS, HuggingFaceLogin
from siamese.study.web.request_limits import HOME, LOGIN, STUDIES
from siamese.web.hf_space import origin

public = public_router()
change = change_router()


def encrypted(request: Request) -> bool:
    """Whether the browser's connection is encrypted; a Space's proxy ends the encryption."""
    return request.url.scheme == "https" or origin() is not None


def sender(request: Request) -> str:
    """The address whose failed attempts count."""
    return request.client.host if request.client else ""


def let_in(request: Request, response: Response, cookie: str) -> Response:
    """``response`` with the session's cookie."""
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


def huggingface(services: StudyServices) -> HuggingFaceLogin:
    """The log-in by Hugging Face; a NotLoggedInError if it is not set up."""
    if services.huggingface is None:
        raise NotLoggedInError("log-in by Hugging Face is not set up here; use the password.")
    return services.huggingface


@public.get("/login")
def login_page(services: Services) -> Response:
    """The form for the password, and the link to Hugging Face if that is set up."""
    return login_form(services)


@public.post("/login")
def login(request: Request, services: Services, password: Annotated[str, Form(max_length=2000)]) -> Response:
    """Begin a session by password."""
    cookie = services.administrator.log_in(password, sender(request))
    return let_in(request, RedirectResponse(HOME, 303), cookie)


@public.get("/login/huggingface")
def to_huggingface(request: Request, services: Services) -> Response:
    """Send the browser to Hugging Face."""
    address, cookie = huggingface(services).begin()
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
def from_huggingface(request: Request, services: Services) -> Response:
    """Begin the session of a user whom Hugging Face has sent back."""
    huggingface(services).finish(request.query_params, request.cookies.get(STATE_COOKIE), sender(request))
    # A page and no redirect: the browser would not send the strict cookie after a redirect from another site.
    cookie = services.administrator.new_session()
    response = let_in(request, services.pages.render("welcome.html", "Logged in", trail=[STUDIES]), cookie)
    response.delete_cookie(STATE_COOKIE, path=LOGIN)
    return response


@change.post("/logout")
def logout(services: Services, session: Session) -> Response:
    """End the session everywhere."""
    services.administrator.log_out(session)
    response = RedirectResponse(f"{HOME}/login", 303)
    response.delete_cookie(COOKIE, path="/study")
    return response


ROUTERS = (public, change)
