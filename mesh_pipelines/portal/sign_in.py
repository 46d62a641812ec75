"""Who is asking: nobody (who may read), someone an OpenID Connect provider vouches for, or the development user.

Any provider with a discovery document serves. Without one, and on a loopback address only, the portal's own start
prints a link that signs its user in: the link is signed with a key that only they can read, and is good for an hour.
The session is a signed cookie; there is no table of sessions to keep.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import Request

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import SettingInvalid
from mesh_pipelines.portal.security import is_loopback
from mesh_pipelines.settings import Settings

if TYPE_CHECKING:
    from authlib.integrations.starlette_client import OAuth

_KEY_FILE = "portal.key"
_LINK_SECONDS = 3600
_DEVELOPMENT = "development"
_SALT = "portal sign-in link"


@dataclass(frozen=True)
class User:
    """Someone who signed in; ``names`` are what contracts may call them by."""

    name: str
    names: frozenset[str]
    everything: bool = False

    def may_act_for(self, product: DataProduct) -> bool:
        """Whether they belong to the product's team."""
        return self.everything or bool(self.names & {member.lower() for member in product.team})


def user_of(request: Request) -> User | None:
    """The user of a request's session, if any."""
    raw: dict[str, Any] | None = request.session.get("user")
    if not raw:
        return None
    return User(raw["name"], frozenset(raw["names"]), bool(raw.get("everything")))


def remember(request: Request, name: str, names: list[str], *, everything: bool = False) -> None:
    """Begin a session."""
    request.session.clear()
    request.session["user"] = {
        "name": name,
        "names": [one.lower() for one in names if one],
        "everything": everything,
    }


def secret_key(settings: Settings) -> str:
    """The key that signs cookies and links: a file of the home folder that only its owner can read."""
    file = settings.home / _KEY_FILE
    settings.home.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(file)
    with os.fdopen(handle, "w") as opened:
        opened.write(secrets.token_urlsafe(48))
    return _read(file)


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

    oauth, secret = OAuth(), settings.oidc_client_secret
    oauth.register(
        "provider",
        client_id=settings.oidc_client_id,
        client_secret=secret.get_secret_value() if secret else None,
        server_metadata_url=f"{settings.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={"scope": "openid email profile", "code_challenge_method": "S256"},
    )
    return oauth


def names_in(claims: dict[str, Any], claim: str) -> tuple[str, list[str]]:
    """What to call the user of an id token, and what contracts may call them: the value of the trusted claim.

    An e-mail address that the provider says it has not verified is nobody's.
    """
    trusted = str(claims.get(claim) or "")
    # Some providers write it as text.
    if claim == "email" and str(claims.get("email_verified", True)).lower() != "true":
        trusted = ""
    return str(claims.get("name") or trusted or claims["sub"]), [trusted] if trusted else []
