"""Visitors: what each one sends, and what its tasks must see.

All of it follows from the visitor's number alone, so that the client, the view and the
test of a task know it without the library.
"""

from __future__ import annotations

import http.client
import json
import typing as t
from urllib.parse import urlencode

import flask
from flask import request
from flask.sessions import SecureCookieSessionInterface

SECRET_KEY = "the same in the web process and in the worker"
LANGUAGES = ("en", "de", "fr", "es", "pt", "ja")
KINDS_OF_BODY = ("none", "json", "form", "upload")
BOUNDARY = "between-the-parts"


class Visitor:
    def __init__(self, kind: str, number: int) -> None:
        self.kind, self.number = kind, number
        self.name = f"{kind}-{number}"
        self.app = "second" if kind == "apps" and number % 2 else "shop"
        self.host = f"{self.app}-{number}.example"
        self.body_kind = KINDS_OF_BODY[number % len(KINDS_OF_BODY)]
        self.method = "GET" if self.body_kind == "none" else "POST"
        self.path = f"/{kind}/{number}?page={number}&tag=a&tag={number}"
        # Names that WSGI gives back as they were sent.
        self.headers = {
            "Host": self.host,
            "Accept-Language": f"{self.language},xx;q=0.5",
            "User-Agent": f"client/{number}",
            "X-Request-Id": f"{number:032x}",
        }
        if content := self.content_type:
            self.headers["Content-Type"] = content
            self.headers["Content-Length"] = str(len(self.body))

    @property
    def language(self) -> str:
        return LANGUAGES[self.number % len(LANGUAGES)]

    @property
    def session(self) -> dict[str, t.Any]:
        return {"user": f"user-{self.number}", "cart": [self.number, self.number + 1]}

    @property
    def g(self) -> dict[str, t.Any]:
        return {"tenant": f"tenant-{self.number}", "limits": {"items": self.number}}

    @property
    def fields(self) -> list[tuple[str, str]]:
        return [("name", f"visitor {self.number}"), ("tag", "x"), ("tag", "ü")]

    @property
    def content_type(self) -> str:
        return {
            "none": "",
            "json": "application/json",
            "form": "application/x-www-form-urlencoded",
            "upload": f"multipart/form-data; boundary={BOUNDARY}",
        }[self.body_kind]

    @property
    def json(self) -> t.Any:
        return {"visitor": self.number, "items": [{"id": self.number, "name": "ü"}]}

    @property
    def photo(self) -> bytes:
        return bytes(range(256)) + str(self.number).encode()

    @property
    def body(self) -> bytes:
        if self.body_kind == "json":
            return json.dumps(self.json).encode()
        if self.body_kind == "form":
            return urlencode(self.fields).encode()
        if self.body_kind == "upload":
            return self._multipart()
        return b""

    def _multipart(self) -> bytes:
        parts = [
            f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
            for name, value in self.fields
        ]
        parts.append(
            b'Content-Disposition: form-data; name="photo"; filename="photo.png"\r\n'
            b"Content-Type: image/png\r\n\r\n" + self.photo
        )
        lines = [f"--{BOUNDARY}\r\n".encode() + part + b"\r\n" for part in parts]
        return b"".join([*lines, f"--{BOUNDARY}--\r\n".encode()])

    def expected(self) -> dict[str, t.Any]:
        """What :func:`see` must give in the view and in every task."""
        has_form = self.body_kind in ("form", "upload")
        form: dict[str, list[str]] = {}
        for name, value in self.fields if has_form else ():
            form.setdefault(name, []).append(value)
        return {
            "app": self.app,
            "url": f"http://{self.host}{self.path}",
            "host": self.host,
            "method": self.method,
            "endpoint": "visit",
            "view_args": {"kind": self.kind, "number": self.number},
            "args": {"page": [str(self.number)], "tag": ["a", str(self.number)]},
            "remote_addr": "127.0.0.1",
            "user": self.session["user"],
            "language": self.language,
            "session": {**self.session, "visits": self.number % 7},
            "g": self.g,
            "form": form,
            "json": self.json if self.body_kind == "json" else None,
            "photo": self.photo.hex() if self.body_kind == "upload" else None,
            "headers": dict(sorted(self.headers.items())),
            "link": f"http://{self.host}/chain/7",
        }


def see() -> dict[str, t.Any]:
    """The request, as it is here."""
    photo = request.files.get("photo")
    content = None
    if photo:
        content = photo.stream.read().hex()
        photo.stream.seek(0)
    headers = dict(sorted(request.headers.items()))
    headers.pop("Cookie", None)  # in the view alone
    return {
        "app": flask.current_app.config["APP"],
        "url": request.url,
        "host": request.host,
        "method": request.method,
        "endpoint": request.endpoint,
        "view_args": request.view_args,
        "args": request.args.to_dict(flat=False),
        "remote_addr": request.remote_addr,
        "user": flask.session.get("user"),
        "language": request.accept_languages.best_match(LANGUAGES),
        "session": dict(flask.session),
        "g": {name: flask.g.get(name) for name in flask.g},
        "form": request.form.to_dict(flat=False),
        "json": request.get_json() if request.is_json else None,
        "photo": content,
        "headers": headers,
        "link": flask.url_for("visit", kind="chain", number=7, _external=True),
    }


def differences(expected: dict[str, t.Any]) -> list[str]:
    seen = see()
    return [
        f"{key}: {seen.get(key)!r} instead of {expected.get(key)!r}"
        for key in sorted(expected.keys() | seen.keys())
        if seen.get(key) != expected.get(key)
    ]


class Client:
    """A browser that makes one visit after another on its connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        app = flask.Flask("visitors")
        app.secret_key = SECRET_KEY
        serializer = SecureCookieSessionInterface().get_signing_serializer(app)
        assert serializer is not None
        self.dumps = serializer.dumps

    def visit(self, visitor: Visitor) -> str:
        """``""``, or what went wrong."""
        connection = self.connection
        try:
            connection.putrequest(
                visitor.method, visitor.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in visitor.headers.items():
                connection.putheader(name, value)
            connection.putheader("Cookie", f"session={self.dumps(visitor.session)}")
            connection.endheaders(visitor.body)
            response = connection.getresponse()
            answer = response.read().decode(errors="replace")
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            return f"{visitor.name}: {error!r}"
        if response.status == 200:
            return ""
        return f"{visitor.name}: {response.status} {answer[:300]}"
