"""A small OpenID Connect provider, which says of whoever asks what a test wants."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI, Form
from fastapi.responses import JSONResponse, RedirectResponse, Response
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

CLIENT, SECRET = "portal", "of the test's own"
ANN = {"sub": "1", "email": "Ann@example.com", "email_verified": True, "name": "Ann"}


class Provider:
    """An OpenID Connect provider: discovery, keys, and the code flow with PKCE. Whoever asks is ``claims``."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.port = port
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}, private=True)
        self._asked: dict[str, dict[str, str]] = {}
        self.reset()
        self.app = FastAPI(openapi_url=None)
        self.app.add_api_route("/.well-known/openid-configuration", self._discovery)
        self.app.add_api_route("/keys", self._keys)
        self.app.add_api_route("/authorize", self._authorize)
        self.app.add_api_route("/token", self._token, methods=["POST"])

    def reset(self) -> None:
        self.claims: dict[str, Any] = dict(ANN)
        self.more: dict[str, Any] = {}
        self.signed_with = self.key
        self.header = {"alg": "RS256", "kid": "one"}

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def _keys(self) -> Any:
        return KeySet([self.key]).as_dict(private=False)

    def _authorize(self, redirect_uri: str, state: str, nonce: str, code_challenge: str, client_id: str) -> Response:
        assert client_id == CLIENT
        code = f"code-{len(self._asked)}"
        self._asked[code] = {"nonce": nonce, "challenge": code_challenge, "redirect_uri": redirect_uri}
        return RedirectResponse(f"{redirect_uri}?{urlencode({'code': code, 'state': state})}", 302)

    def _token(self, code: str = Form(), code_verifier: str = Form(), redirect_uri: str = Form()) -> Response:
        asked = self._asked.pop(code, None)
        shown = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
        if asked is None or asked["challenge"] != shown or asked["redirect_uri"] != redirect_uri:
            return JSONResponse({"error": "invalid_grant", "error_description": "not so"}, 400)
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        token = jwt.encode(self.header, {**claims, **self.claims, **self.more}, self.signed_with)
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": token})
