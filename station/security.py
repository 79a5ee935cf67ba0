"""Who may speak to the station, and how much: token, origin, sizes, and headers of every answer."""

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any

from scene import InputError

COOKIE = "splatpose_station"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
LEAST_TOKEN = 16  # letters
SMALL_BODY = 2 * 2**20  # bytes of a request that carries no photographs
_BODY_SECONDS = 120.0  # for a request to arrive as a whole
_OPEN = ("/login", "/static/")  # without a token
_SAFE = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; img-src 'self' data: blob:; script-src 'self'; style-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
Receive = Callable[[], Any]
Send = Callable[[Any], Any]
App = Callable[[Any, Receive, Send], Any]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host in LOOPBACK


def check_token(host: str, token: str) -> None:
    """Raises InputError when an address that others reach has no token, or a guessable one."""
    if not token and is_loopback(host):
        return
    if not token:
        raise InputError(
            f"--host {host} can be reached by other machines: give --token-file FILE with a "
            f"secret of at least {LEAST_TOKEN} letters that clients must know"
        )
    if len(token) < LEAST_TOKEN:
        raise InputError(f"--token-file: the token has fewer than {LEAST_TOKEN} letters")
    if not token.isascii() or not token.isprintable():
        raise InputError(
            "--token-file: the token holds characters that no HTTP header carries: use letters "
            "without accents, digits and signs of one line, as `openssl rand -hex 16` gives"
        )


def session_of(token: str) -> str:
    """What a browser keeps instead of the token."""
    return hmac.new(token.encode(), b"station page", hashlib.sha256).hexdigest()


def same(given: str, wanted: str) -> bool:
    """Compares in a time that does not depend on how much is right."""
    return hmac.compare_digest(given.encode(), wanted.encode())


@dataclass(frozen=True)
class Guard:
    """ASGI middleware in front of everything."""

    app: App
    token: str  # "": none is needed
    loopback_only: bool
    body_limits: Mapping[str, int]  # bytes, by path; others have `SMALL_BODY`

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it with an error."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1")
                   for name, value in scope["headers"]}  # fmt: skip
        refusal = self._refusal(scope, headers)
        sender = _with_headers(send, scope["path"])
        if refusal is not None:
            await _answer(sender, *refusal)
            return
        limit = self.body_limits.get(scope["path"], SMALL_BODY)
        await _Body(self.app, limit, headers)(scope, receive, sender)

    def _refusal(self, scope: Any, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and message for a request that has no business here."""
        host = headers.get("host", "")
        if self.loopback_only and _host_name(host) not in LOOPBACK:
            return 403, "this station answers to its own address only"  # a page rebound its name
        if scope["method"] not in _SAFE:
            origin = headers.get("origin")
            foreign = origin is not None and origin.split("://")[-1] != host
            if foreign or headers.get("sec-fetch-site") == "cross-site":
                return 403, "another site's page may not speak to the station"
        path = scope["path"]
        if self.token and not path.startswith(_OPEN) and not self._knows_token(headers):
            return 401, "give the token: 'Authorization: Bearer ...', or log in at /login"
        return None

    def _knows_token(self, headers: Mapping[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and same(given.strip(), self.token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and same(cookie.value, session_of(self.token))


@dataclass(frozen=True)
class _Body:
    """Counts the bytes of a body while they come, and the time."""

    app: App
    limit: int
    headers: Mapping[str, str]

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        stated = self.headers.get("content-length", "0")
        if not stated.isdigit() or int(stated) > self.limit:
            await _answer(send, 413, f"a request has at most {self.limit:,} bytes here")
            return
        count, end = 0, asyncio.get_running_loop().time() + _BODY_SECONDS
        whole, started = scope["method"] in _SAFE, False
        refusal: tuple[int, str] | None = None

        async def counted() -> Any:
            nonlocal count, whole, refusal
            if whole:  # only a disconnection can follow
                return await receive()
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                refusal = 408, "the request took too long to arrive"
                raise _Refused from None
            count += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if count > self.limit:
                refusal = 413, f"a request has at most {self.limit:,} bytes here"
                raise _Refused
            return message

        async def noted(message: Any) -> None:
            nonlocal started
            if refusal is None or started:  # what the application makes of our error is dropped
                started = True
                await send(message)

        with contextlib.suppress(_Refused):
            await self.app(scope, counted, noted)
        if refusal is not None and not started:
            await _answer(send, *refusal)


class _Refused(Exception):
    pass


def _host_name(host: str) -> str:
    """Of a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _with_headers(send: Send, path: str) -> Send:
    """Adds the headers that every answer has."""
    fixed = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]

    async def sender(message: Any) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in message["headers"]}
            message["headers"] = list(message["headers"]) + fixed
            if b"cache-control" not in own:
                kept = b"no-cache" if path.startswith("/static/") else b"no-store"
                message["headers"].append((b"cache-control", kept))
        await send(message)

    return sender


async def _answer(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"),
               (b"content-length", str(len(body)).encode()), (b"connection", b"close")]  # fmt: skip
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
