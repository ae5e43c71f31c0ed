"""Who may ask the server for anything: a token, the right host and origin, small requests.

Another page in the same browser can send requests to this machine, and a name of another site can
be made to point here (DNS rebinding). Every request is checked before anything else happens.
"""

import ipaddress
import secrets
import socket
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "token"
"""The name of the parameter that brings the token the first time."""
LARGEST_BODY = 1_000_000
"""Bytes of the body of a request, but of an upload."""
LONGEST_TARGET = 8_000
"""Bytes of a path and its parameters."""
SAFE_METHODS = ("GET", "HEAD")
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, forms would come from the origin null
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def new_token() -> str:
    """Return a random token of 256 bits."""
    return secrets.token_urlsafe(32)


def is_loopback(host: str) -> bool:
    """Say whether a host to listen on is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class BodyTooLargeError(ValueError):
    """A request has a larger body than is read."""


class Guard:
    """Refuse requests without the token, for another host, or from another site's page.

    Args:
        app: what answers the others.
        token: the secret that the browser shows.
        host: what the server listens on.
        port: the same; it parts the cookies of several servers on one machine.
        uploads: paths to which longer bodies may be put; they limit themselves.
    """

    def __init__(
        self, app: ASGIApp, *, token: str, host: str, port: int, uploads: tuple[str, ...] = ()
    ) -> None:
        self.app = app
        self.token = token
        self.cookie = f"iddpm_ui_{port}"
        self.uploads = uploads
        self._names = {"localhost"}
        if not is_loopback(host):
            self._names |= {host, socket.gethostname(), socket.getfqdn()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand the request on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there is no websocket here
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send))
            return
        upload = scope["path"] in self.uploads and scope["method"] == "PUT"
        await self.app(
            scope, receive if upload else _limited(receive, LARGEST_BODY), _with_headers(send)
        )

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is not to be let in, or None."""
        headers = Headers(scope=scope)
        if len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST_TARGET:
            return PlainTextResponse("the address is too long\n", 414)
        if not self._is_ours(headers.getlist("host")):
            return PlainTextResponse("403: the Host header names another host\n", 403)
        if not _same_origin(headers):
            return PlainTextResponse("403: the request comes from another site\n", 403)
        query = scope["query_string"].decode("latin-1")
        given = [(k, v) for k, v in parse_qsl(query, keep_blank_values=True) if k == TOKEN]
        if given and self._is_token(given[0][1]):
            return self._welcome(scope, query)
        if not self._is_token(_cookies(headers).get(self.cookie, "")):
            return PlainTextResponse(
                "401: open the address that iddpm ui printed; it holds the token\n", 401
            )
        return None

    def _is_ours(self, hosts: list[str]) -> bool:
        """Say whether the Host header is an address or a name of this machine.

        An address cannot be made to point elsewhere; a name of another site can.
        """
        if len(hosts) != 1:
            return False
        name = _without_port(hosts[0])
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or len(self._names) > 1

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), self.token.encode())

    def _welcome(self, scope: Scope, query: str) -> Response:
        """Keep the token in a cookie and go to the same address without it."""
        if scope["method"] not in SAFE_METHODS:
            return PlainTextResponse("401: open the address that iddpm ui printed\n", 401)
        rest = urlencode(
            [(k, v) for k, v in parse_qsl(query, keep_blank_values=True) if k != TOKEN]
        )
        path = "/" + scope["raw_path"].decode("latin-1").lstrip("/\\")  # never another host
        answer = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
        answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        return answer


def _same_origin(headers: Headers) -> bool:
    """Say whether the page that sent a request, where the browser says it, is one of ours."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or origin in (f"http://{headers['host']}", f"https://{headers['host']}")


def _without_port(host: str) -> str:
    """Return a host without its port, an address of version 6 without its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _cookies(headers: Headers) -> dict[str, str]:
    """Return the cookies of a request; none where they are malformed."""
    try:
        found = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in found.items()}


def _limited(receive: Receive, limit: int) -> Receive:
    """Return a receiver that refuses bodies above a number of bytes."""
    count = 0

    async def limited() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > limit:
            raise BodyTooLargeError(f"the request has more than {limit} bytes")
        return message

    return limited


def _with_headers(send: Send) -> Send:
    """Return a sender that adds the headers that every answer has."""

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sender
