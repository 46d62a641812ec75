"""What stands before Dagster's pages: which host and page a request comes from, who asks, and whether they may.

Dagster's own webserver knows no users, takes mutations by GET, and answers every host and site. It is called from here
in the same process, so there is no other way to it: a proxy before its own port was ruled out, since whoever is on the
machine would reach that port. What is passed on is what was looked at: a GraphQL request is written anew from what was
read of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mesh_pipelines.orchestration.roles import Role, Unreadable, needed, only_subscribes, role_of
from mesh_pipelines.settings import Settings
from mesh_pipelines.web.security import (
    FRAMELESS,
    HEADERS,
    SAFE_METHODS,
    Guard,
    Rules,
    headers_at,
    is_https,
    names_of,
    path_of_ours,
)
from mesh_pipelines.web.sessions import SECONDS, cookie_at, note_refused
from mesh_pipelines.web.sign_in import CALLBACK, SignIn, is_program, secret_key

GRAPHQL = "/graphql"
# Where Dagster finds the role of who asks, in the scope of a request.
ROLE = "mesh_role"
# Notebooks are pages that their authors wrote, and may run in whoever's browser; the mesh has none.
_NOT_SERVED = frozenset({"/notebook", "/dagit/notebook"})
_BACK = "back"
_MOST_BODY = 4_194_304
# How long a connection that stays open goes on after its user has signed out.
_LOOK_AGAIN_S = 10.0
_REFUSED: Message = {"type": "websocket.close", "code": 1008}


def guarded(dagster: ASGIApp, settings: Settings) -> ASGIApp:
    """Dagster's pages behind all checks."""
    front = Front(dagster, settings)
    with_session = SessionMiddleware(
        front,
        secret_key=secret_key(settings),
        session_cookie=cookie_at(settings.dagster_address),
        max_age=SECONDS,
        same_site="lax",
        https_only=is_https(settings.dagster_address),
    )
    rules = Rules(
        names_of(settings.host, settings.dagster_address),
        headers_at(settings.dagster_address, FRAMELESS),
        _MOST_BODY,
        "MESH_DAGSTER_URL",
        lambda headers: is_program(settings, headers.get("authorization", "")),
    )
    return Guard(with_session, rules)


class Front:
    """Passes on what who asks may do."""

    def __init__(self, dagster: ASGIApp, settings: Settings) -> None:
        self._dagster = dagster
        self._settings = settings
        self._sign_in = SignIn(settings, settings.dagster_address)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] == "websocket":
            await self._subscribe(scope, receive, send)
        elif scope["type"] == "http":
            try:
                answer = await self._answer(Request(scope, receive), send)
            except HTTPException as error:
                answer = PlainTextResponse(error.detail, error.status_code)
            if answer is not None:
                await answer(scope, receive, send)
        else:
            await self._dagster(scope, receive, send)

    async def _answer(self, request: Request, send: Send) -> Response | None:
        """An answer of our own; None where Dagster has answered."""
        # As Dagster's routes see it.
        path = str(request.scope["path"])
        if not _is_plain(path) or path.rstrip("/") in _NOT_SERVED:
            return PlainTextResponse("Nothing here", 404)
        if self._settings.oidc_issuer and path.startswith("/sign-"):
            return await self._signing(request)
        role = self._role(request)
        if role is None:
            return self._sign_in_first(request)
        request.scope[ROLE] = role
        if path.rstrip("/") == GRAPHQL:
            return await self._graphql(request, role, send)
        if request.method not in SAFE_METHODS and role < Role.ADMINISTER:
            self._note_refused(request, Role.ADMINISTER)
            return PlainTextResponse(_not_allowed(Role.ADMINISTER), 403)
        await self._dagster(request.scope, request.receive, send)
        return None

    async def _graphql(self, request: Request, role: Role, send: Send) -> Response | None:
        if request.method in ("GET", "HEAD") and not request.scope["query_string"]:
            # The page to write queries in.
            await self._dagster(request.scope, request.receive, send)
            return None
        if request.method != "POST":
            return PlainTextResponse("GraphQL is asked by POST", 405, {"Allow": "POST"})
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return PlainTextResponse("GraphQL is asked with content of the type application/json", 415)
        asked = _asked(await request.body())
        if asked is None:
            return _errors("a GraphQL request must be a JSON object with a query", 400)
        try:
            # Apart from the loop: a large document takes a part of a second.
            wanted = await run_in_threadpool(needed, asked["query"])
        except Unreadable as error:
            return _errors(f"this is not GraphQL, or too much of it: {error}", 400)
        if wanted > role:
            self._note_refused(request, wanted)
            return _errors(_not_allowed(wanted), 403)
        scope, receive = _rewritten(request.scope, asked)
        await self._dagster(scope, receive, send)
        return None

    async def _subscribe(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a websocket on while its user is signed in; only subscriptions go through it."""
        connection = HTTPConnection(scope)
        role = self._role(connection)
        if role is None or scope["path"].rstrip("/") != GRAPHQL:
            await send(_REFUSED)
            return
        scope[ROLE] = role
        looked = time.monotonic()

        def is_over() -> bool:
            nonlocal looked
            if time.monotonic() - looked < _LOOK_AGAIN_S:
                return False
            looked = time.monotonic()
            return self._role(connection) is None

        async def checked() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and (is_over() or not _is_subscription(message)):
                await send(_REFUSED)
                return {"type": "websocket.disconnect", "code": 1008}
            return message

        async def sent(message: Message) -> None:
            await send(_REFUSED if message["type"] == "websocket.send" and is_over() else message)

        await self._dagster(scope, checked, sent)

    def _role(self, connection: HTTPConnection) -> Role | None:
        """What who asks may do; None where they have to sign in first."""
        if is_program(self._settings, connection.headers.get("authorization", "")):
            return Role.ADMINISTER
        if not self._settings.oidc_issuer:
            # Only who is on this machine gets here: it does not start elsewhere without sign-in.
            return Role.ADMINISTER
        user = self._sign_in.sessions.user(connection)
        return role_of(user, self._settings) if user else None

    def _note_refused(self, request: Request, wanted: Role) -> None:
        if user := self._sign_in.sessions.user(request):
            note_refused(user, f"the right to {wanted.name.lower()}")

    def _sign_in_first(self, request: Request) -> Response:
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/sign-in?{_BACK}={quote(path_of_ours(back), safe='')}", 303)
        return PlainTextResponse("Sign in first", 401)

    async def _signing(self, request: Request) -> Response:
        match (request.method, request.url.path):
            case ("GET", "/sign-in"):
                return self._sign_in_page(request)
            case ("GET", "/sign-in/provider"):
                request.session[_BACK] = path_of_ours(request.query_params.get(_BACK, "/"))
                return await self._sign_in.to_provider(request)
            case ("GET", path) if path == CALLBACK:
                back = path_of_ours(str(request.session.get(_BACK, "/")))
                await self._sign_in.from_provider(request)
                return RedirectResponse(back, 303)
            case ("POST", "/sign-out"):
                self._sign_in.sessions.end(request)
                return RedirectResponse("/sign-in", 303)
            case _:
                return PlainTextResponse("Nothing here", 404)

    def _sign_in_page(self, request: Request) -> Response:
        user = self._sign_in.sessions.user(request)
        back = quote(path_of_ours(request.query_params.get(_BACK, "/")), safe="")
        way = f'<p><a href="/sign-in/provider?{_BACK}={back}">Sign in with your organisation</a></p>'
        if user:
            role = role_of(user, self._settings).name.lower()
            way = (
                f"<p>{escape(user.name)} is signed in and may {role}.</p>"
                '<form action="/sign-out" method="post"><button type="submit">Sign out</button></form>'
            )
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sign in · Dagster</title></head>'
            f"<body><main><h1>Dagster</h1>{way}</main></body></html>"
        )
        return HTMLResponse(page, headers=HEADERS)


def _is_plain(path: str) -> bool:
    """Whether a path, as it was decoded, stays where it says."""
    return not {"..", "."} & set(path.split("/")) and not any(one in path for one in "\\\0\r\n")


def _asked(body: bytes) -> dict[str, Any] | None:
    """What a GraphQL request asks: query, variables and the operation's name; None where it asks nothing."""
    found = _json(body)
    if not isinstance(found, dict) or not isinstance(found.get("query"), str):
        return None
    return {name: found.get(name) for name in ("query", "variables", "operationName")}


def _json(text: bytes | str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _rewritten(scope: Scope, asked: Mapping[str, Any]) -> tuple[Scope, Receive]:
    """A request that asks just what was looked at."""
    body = json.dumps(asked).encode()
    headers = Headers(scope=scope).mutablecopy()
    del headers["transfer-encoding"]
    headers["content-type"] = "application/json"
    headers["content-length"] = str(len(body))
    given = False

    async def receive() -> Message:
        nonlocal given
        if given:
            return {"type": "http.disconnect"}
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return {**scope, "headers": headers.raw, "query_string": b""}, receive


def _is_subscription(message: Message) -> bool:
    """Whether a message to a websocket may be passed on: it starts nothing, or a subscription."""
    found = _json(message.get("text") or "")
    if not isinstance(found, dict):
        return False
    if found.get("type") != "start":
        return True
    asked = found.get("payload")
    if not isinstance(asked, dict) or not isinstance(asked.get("query"), str):
        return False
    try:
        return only_subscribes(asked["query"])
    except Unreadable:
        return False


def _not_allowed(wanted: Role) -> str:
    setting = f"MESH_DAGSTER_{wanted.name}"
    return f"this needs the right to {wanted.name.lower()}, which you do not have: {setting} names those who have it"


def _errors(message: str, status: int) -> Response:
    """A refusal in the form of GraphQL's errors."""
    return JSONResponse({"data": None, "errors": [{"message": message}]}, status)
