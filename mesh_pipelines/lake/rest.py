"""The REST catalog, with limits on the bytes and the whole time of its answers, which its client has none for.

The client's sessions ask through an adapter of ours. Requests that are signed for a cloud (SigV4) have an adapter of
their own and are not limited, nor are managers of tokens that ask by themselves (``auth`` in the catalog's properties).
"""

from __future__ import annotations

import io
from typing import Any, cast

import httpx2
import requests
from pyiceberg.catalog.rest import RestCatalog
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers, select_proxy

from mesh_pipelines.bounded_http import BoundedTransport, Bounds, certificates

# A table's metadata grows with its snapshots; expired ones are gone from it.
_BOUNDS = Bounds(60.0, 134_217_728)


class BoundedRestCatalog(RestCatalog):
    """pyiceberg's REST catalog, whose answers end."""

    def _config_headers(self, session: requests.Session) -> None:
        # The first that a session is given, before it asks for a token.
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter())
        super()._config_headers(session)


class _Adapter(BaseAdapter):
    """Sends the requests of a session through a client that is held to bounds."""

    def __init__(self) -> None:
        super().__init__()
        self._clients: dict[tuple[str, ...], httpx2.Client] = {}

    def send(self, request: requests.PreparedRequest, *_: Any, **options: Any) -> requests.Response:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The whole answer.

        Raises:
            ReadTimeout, ConnectionError: it takes too long; it is too large, or there is none.
        """
        client = self._client(options.get("verify", True), options.get("cert"), _proxy(request, options))
        try:
            answer = client.request(
                str(request.method),
                str(request.url),
                headers=[(name, str(value)) for name, value in request.headers.items()],
                content=cast("bytes | str | None", request.body),
            )
        except httpx2.TimeoutException as error:
            raise requests.exceptions.ReadTimeout(str(error), request=request) from error
        except httpx2.TransportError as error:
            raise requests.exceptions.ConnectionError(str(error), request=request) from error
        return _response(request, answer)

    def close(self) -> None:
        """Hang up."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _client(self, verify: bool | str, cert: Any, proxy: str | None) -> httpx2.Client:
        key = (str(verify), str(cert), str(proxy))
        if key not in self._clients:
            inner = httpx2.HTTPTransport(verify=certificates(verify, cert), proxy=proxy, trust_env=False)
            transport = BoundedTransport(inner, _BOUNDS)
            self._clients[key] = httpx2.Client(
                transport=transport, timeout=_BOUNDS.seconds, trust_env=False, follow_redirects=False
            )
        return self._clients[key]


def _proxy(request: requests.PreparedRequest, options: dict[str, Any]) -> str | None:
    return select_proxy(str(request.url), options.get("proxies") or {})


def _response(request: requests.PreparedRequest, answer: httpx2.Response) -> requests.Response:
    found = requests.Response()
    found.status_code = answer.status_code
    found.headers = CaseInsensitiveDict(answer.headers.items())
    found.encoding = get_encoding_from_headers(found.headers)
    found.reason = answer.reason_phrase
    found.url = str(request.url)
    found.request = request
    found.raw = io.BytesIO(answer.content)
    return found
