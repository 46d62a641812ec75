"""Who is asking: nobody, someone an OpenID Connect provider vouches for, or the development user.

Any provider with a discovery document serves. Without one, and on a loopback address only, the portal's own start
prints a link that signs its user in: the link is signed with a key that only they can read, and is good for an hour.
The portal and Dagster's pages sign people in alike, and share their sessions (``sessions.py``).
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mesh_pipelines.errors import SettingInvalid
from mesh_pipelines.settings import Settings
from mesh_pipelines.web.security import is_loopback
from mesh_pipelines.web.sessions import Sessions, User

if TYPE_CHECKING:
    from authlib.integrations.starlette_client import OAuth

_KEY_FILE = "portal.key"
_LINK_SECONDS = 3600
_DEVELOPMENT = "development"
_SALT = "portal sign-in link"
_PROGRAM = "program"
_PROGRAM_SALT = "program of the mesh"
# A program makes a token for each question.
_PROGRAM_SECONDS = 60
# Of a provider: its keys and its description of itself are some kilobytes.
_ANSWER_S = 10.0
_ANSWER_BYTES = 1_048_576
CALLBACK = "/sign-in/callback"
_log = logging.getLogger(__name__)


def secret_key(settings: Settings) -> str:
    """The key that signs cookies and links: a file of the home folder that only its owner can read."""
    file = settings.home / _KEY_FILE
    settings.home.mkdir(parents=True, exist_ok=True)
    # An empty one is what a full disk left of a key: nothing was ever signed with it.
    if not file.exists() or not file.stat().st_size:
        _make_key(file)
    return _read(file)


def _make_key(file: Path) -> None:
    """Write a new key aside, to the disk, and then give it its name; of two that do so at once the first counts."""
    handle, aside = tempfile.mkstemp(prefix=f"{_KEY_FILE}.", dir=file.parent)
    try:
        with os.fdopen(handle, "w") as opened:
            opened.write(secrets.token_urlsafe(48))
            opened.flush()
            os.fsync(opened.fileno())
        if file.exists() and not file.stat().st_size:
            os.replace(aside, file)
            return
        with suppress(FileExistsError):
            os.link(aside, file)
    finally:
        Path(aside).unlink(missing_ok=True)


def _read(file: Path) -> str:
    key = file.read_text().strip()
    if len(key) < 32:
        raise SettingInvalid(
            f"{file} must contain a key of at least 32 characters", next_step="remove it and start again"
        )
    return key


class DevelopmentLink:
    """The link by which the development user signs in."""

    def __init__(self, settings: Settings) -> None:
        self._serializer = URLSafeTimedSerializer(secret_key(settings), salt=_SALT)
        self.allowed = is_loopback(settings.host) and not settings.oidc_issuer

    def token(self) -> str:
        """A new link's token."""
        return self._serializer.dumps(_DEVELOPMENT)

    def accepts(self, token: str) -> bool:
        """Whether the token is one of ours, and not too old."""
        try:
            return self.allowed and self._serializer.loads(token, max_age=_LINK_SECONDS) == _DEVELOPMENT
        except BadSignature:
            return False


def provider(settings: Settings) -> OAuth | None:
    """The OpenID Connect client of the settings, or None where they name no provider.

    Raises:
        SettingInvalid: an issuer without a client id.
    """
    if not settings.oidc_issuer:
        return None
    if not settings.oidc_client_id:
        raise SettingInvalid(
            "MESH_OIDC_ISSUER is set, so MESH_OIDC_CLIENT_ID must be set too", next_step="see docs/settings.md"
        )
    from authlib.integrations.starlette_client import OAuth

    from mesh_pipelines.bounded_http import BoundedAsyncTransport, Bounds

    bounds = Bounds(_ANSWER_S, _ANSWER_BYTES)
    oauth, secret = OAuth(), settings.oidc_client_secret
    oauth.register(
        "provider",
        client_id=settings.oidc_client_id,
        client_secret=secret.get_secret_value() if secret else None,
        server_metadata_url=f"{settings.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={
            "scope": "openid email profile",
            "code_challenge_method": "S256",
            "transport": BoundedAsyncTransport(bounds),
        },
    )
    return oauth


class SignIn:
    """The ways to sign in at one server, and its sessions; ``address`` is the server's, as its users see it."""

    def __init__(self, settings: Settings, address: str) -> None:
        self._settings = settings
        self._callback = f"{address}{CALLBACK}"
        self.development = DevelopmentLink(settings)
        self.sessions = Sessions(settings.home, settings.oidc_issuer, development=self.development.allowed)

    @cached_property
    def provider(self) -> Any:
        """The OpenID Connect client, or None."""
        return provider(self._settings)

    def by_link(self, request: Request, token: str) -> None:
        """Sign the development user in.

        Raises:
            HTTPException: 403, the link is not good.
        """
        if not self.development.accepts(token):
            raise HTTPException(
                403, "This link has expired or is not from this portal. mesh portal --link prints a new one."
            )
        self.sessions.begin(request, User(_DEVELOPMENT, frozenset(), everything=True), None)

    async def to_provider(self, request: Request) -> Response:
        """To the OpenID Connect provider.

        Raises:
            HTTPException: 404, there is none; 502, it cannot be asked.
        """
        async with self._asking() as client:
            return await client.authorize_redirect(request, self._callback)

    async def from_provider(self, request: Request) -> None:
        """Back from the provider, with its word for who it is: a session begins.

        Raises:
            HTTPException: 403, nobody was signed in; 404; 502.
        """
        async with self._asking() as client:
            token = await client.authorize_access_token(request)
        claims: dict[str, Any] = dict(token.get("userinfo") or {})
        if not claims.get("sub"):
            raise HTTPException(403, "The provider did not say who you are.")
        name, names = names_in(claims, self._settings.oidc_claim)
        user = User(name, frozenset(one.lower() for one in names))
        self.sessions.begin(request, user, self._settings.oidc_issuer)

    @asynccontextmanager
    async def _asking(self) -> AsyncGenerator[Any]:
        """The provider's client, and its errors as answers: what is refused is 403, and what cannot be asked 502."""
        from authlib.integrations.base_client import OAuthError
        from joserfc.errors import JoseError

        if self.provider is None:
            raise HTTPException(404, "No OpenID Connect provider is configured.")
        client, issuer = self.provider.provider, self._settings.oidc_issuer
        try:
            # Tokens are held to the name that the provider gives itself, which has to be the one that is trusted.
            named = (await client.load_server_metadata()).get("issuer")
            if str(named).rstrip("/") != str(issuer).rstrip("/"):
                raise HTTPException(
                    502, f"MESH_OIDC_ISSUER must be the name of the provider, which is {named}, got {issuer}."
                )
            yield client
        except (OAuthError, JoseError) as error:
            _log.info("not signed in by %s: %s", issuer, error.error)
            raise HTTPException(403, f"The provider did not sign you in: {error.description or error.error}") from error
        except HTTPException:
            raise
        except Exception as error:
            # Errors of the network, of TLS and of answers that are not JSON have no base in common.
            _log.warning("the provider %s does not answer", issuer, exc_info=error)
            raise HTTPException(502, f"The provider {issuer} does not answer. The portal's log says why.") from error


def program_token(settings: Settings) -> str:
    """What a program of this mesh shows to Dagster's pages: only who may read the home folder can make it."""
    return URLSafeTimedSerializer(secret_key(settings), salt=_PROGRAM_SALT).dumps(_PROGRAM)


def is_program(settings: Settings, authorization: str) -> bool:
    """Whether an ``Authorization`` header is that of a program of this mesh."""
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer":
        return False
    try:
        serializer = URLSafeTimedSerializer(secret_key(settings), salt=_PROGRAM_SALT)
        return serializer.loads(token, max_age=_PROGRAM_SECONDS) == _PROGRAM
    except BadSignature:
        return False


def names_in(claims: dict[str, Any], claim: str) -> tuple[str, list[str]]:
    """What to call the user of an id token, and what contracts may call them: the value of the trusted claim.

    A claim may have several values, such as groups. An e-mail address that the provider says it has not verified is
    nobody's.
    """
    given = claims.get(claim)
    values = [str(one) for one in (given if isinstance(given, list) else [given]) if one]
    # Some providers write it as text.
    if claim == "email" and str(claims.get("email_verified", True)).lower() != "true":
        values = []
    return str(claims.get("name") or (values[0] if values else "") or claims["sub"]), values
