"""Passwords, tokens and cookies stay out of a message that can be read."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import typing as t
import urllib.parse
from pathlib import Path

import pytest
from flask import request
from werkzeug.datastructures import FileStorage

from flask_task_context import capture_context
from flask_task_context import restore_context
from tests import secrecy
from tests.conftest import ROOT
from tests.conftest import Shop
from tests.conftest import fetch

CANARY = "canary-7731"
KEPT = "kept-4420"

HEADERS = (
    "Authorization",
    "AUTHORIZATION",
    "Proxy-Authorization",
    "Cookie",
    "X-API-Key",
    "X-Api-Key",
    "Api-Key",
    "Apikey",
    "X-Goog-Api-Key",
    "X-CSRF-Token",
    "X-CSRFToken",
    "X-Csrf",
    "X-XSRF-Token",
    "X-Auth-Token",
    "X-Access-Token",
    "X-Amz-Security-Token",
    "X-Client-Secret",
    "X-JWT-Assertion",
    "X-Password",
    "X-Access-Key",
    "X-Auth-Key",
    "X-Bearer",
    "X-Credential",
    "Pass",
    "X-Passcode",
    "X-Passphrase",
    "X-Passwd",
    "X-Private-Key",
    "X-Pwd",
    "X-Secret",
    "X-Session-Id",
    "Ocp-Apim-Subscription-Key",
)
FIELDS = (
    "password",
    "Password",
    "PASSWORD",
    "passWord",
    "pass-word",
    "pass word",
    "user[password]",
    "user.password",
    "users[0][newPassword]",
    "password_confirmation",
    "passwd",
    "passphrase",
    "secret",
    "client_secret",
    "clientSecret",
    "CLIENT-SECRET",
    "token",
    "access_token",
    "accessToken",
    "refresh-token",
    "csrf_token",
    "csrfmiddlewaretoken",
    "_xsrf",
    "api_key",
    "apiKey",
    "api[key]",
    "jwt",
    "authorization",
    "Cookie",
)
#: As much alike as a name can be that is no credential.
INNOCENT = (
    "email",
    "passport",
    "passage",
    "key",
    "keyboard",
    "api",
    "apiary",
    "author",
    "authorize",
    "cookies_accepted",
)


# -- names in headers ------------------------------------------------------------


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_with_a_credential_stays_out(plain_shop: Shop, name: str) -> None:
    """The header is missing in the message and in the task; the others travel."""
    visitor = {name: CANARY, "X-Request-Id": KEPT}
    headers = secrecy.capture(plain_shop, headers=visitor)
    text = secrecy.readable(headers[secrecy.HEADER])
    assert CANARY not in text
    assert KEPT in text
    with restore_context(headers, plain_shop.flask):
        assert name not in request.headers
        assert request.headers["X-Request-Id"] == KEPT


@pytest.mark.parametrize("name", ["X-Author", "X-Api", "X-Key", "Cookies-Accepted"])
def test_a_header_that_only_sounds_alike_travels(plain_shop: Shop, name: str) -> None:
    """A name that holds no pattern as a whole is not left out."""
    headers = plain_shop.capture(headers={name: KEPT})
    with restore_context(headers, plain_shop.flask):
        assert request.headers[name] == KEPT


def test_many_names_are_told_apart_and_not_kept(plain_shop: Shop) -> None:
    """A thousand names of a visitor's own, and some that are long, travel or stay out by
    what they are, and do not pile up in the process that captures them."""
    for turn in range(3):
        names = [f"X-{turn}-{number}" for number in range(700)]
        visitor = dict.fromkeys([*names, f"X-{'a' * 150}"], KEPT)
        secret = dict.fromkeys(["Authorization", f"X-Token-{'b' * 150}"], CANARY)
        headers = secrecy.capture(plain_shop, headers=visitor | secret)
        assert CANARY not in secrecy.readable(headers[secrecy.HEADER])
        with restore_context(headers, plain_shop.flask):
            assert {name: request.headers.get(name) for name in visitor} == visitor
    kept = vars(plain_shop.flask.extensions[secrecy.HEADER])["travels"]
    assert len(kept) < 1100
    assert max(map(len, kept)) < 100


def test_nothing_excluded_is_everything_sent(plain_shop: Shop) -> None:
    """The headers above travel where TASK_CONTEXT_EXCLUDE is empty."""
    plain_shop.flask.config["TASK_CONTEXT_EXCLUDE"] = []
    for name in HEADERS:
        headers = secrecy.capture(plain_shop, headers={name: CANARY})
        with restore_context(headers, plain_shop.flask):
            assert request.headers[name] == CANARY


def test_what_the_server_adds_travels_and_a_proxy_header_does_not(
    plain_shop: Shop,
) -> None:
    """REMOTE_USER travels; ``Proxy:``, which tools take for a setting, does not."""
    headers = plain_shop.capture(
        headers={"Proxy": "http://evil.example"},
        environ_overrides={"REMOTE_USER": "anna", "secret.thing": "x", "PATH": "/bin"},
    )
    assert "evil" not in headers[secrecy.HEADER]
    with restore_context(headers, plain_shop.flask):
        assert request.remote_user == "anna"
        assert "Proxy" not in request.headers
        assert "PATH" not in request.environ


# -- names in forms and JSON -------------------------------------------------------


def escaped(name: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" for letter in name)


def percent(name: str) -> str:
    return "".join(f"%{byte:02X}" for byte in name.encode())


def form(name: str) -> tuple[bytes, str]:
    pairs = [(name, CANARY), ("kept", KEPT), (name, CANARY)]
    return urllib.parse.urlencode(pairs).encode(), "application/x-www-form-urlencoded"


def percent_form(name: str) -> tuple[bytes, str]:
    body = f"{percent(name)}={percent(CANARY)}&kept={KEPT}&&{percent(name)}"
    return body.encode(), "Application/X-WWW-Form-Urlencoded; charset=utf-8"


def multipart(name: str, *, file: bool = False) -> tuple[bytes, str]:
    filename = '; filename="a.txt"' if file else ""
    parts = [(name, CANARY), ("kept", KEPT), (name, CANARY)]
    body = "".join(
        f"--edge\r\nContent-Disposition: form-data;"
        f' name="{key}"{filename if key == name else ""}\r\n\r\n{value}\r\n'
        for key, value in parts
    )
    return f"{body}--edge--\r\n".encode(), "multipart/form-data; boundary=edge"


def multipart_file(name: str) -> tuple[bytes, str]:
    return multipart(name, file=True)


def multipart_binary(name: str) -> tuple[bytes, str]:
    body, kind = multipart(name)
    return body.replace(KEPT.encode(), KEPT.encode() + b"\xff\x00"), kind


def deep_json(name: str) -> tuple[bytes, str]:
    value: t.Any = {name: {"inner": [CANARY]}, "kept": KEPT}
    for _ in range(20):
        value = [{"level": value, "kept": KEPT}]
    return json.dumps(value).encode(), "application/json"


def escaped_json(name: str) -> tuple[bytes, str]:
    pair = f'"{escaped(name)}": "{escaped(CANARY)}"'
    return f'{{{pair}, "kept": "{KEPT}", {pair}}}'.encode(), "application/ld+json"


def undeclared_json(name: str) -> tuple[bytes, str]:
    return b" \n" + deep_json(name)[0], "text/plain"


def wide_json(name: str) -> tuple[bytes, str]:
    return deep_json(name)[0].decode().encode("utf-16"), "application/json"


FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")
ENCODINGS = (
    form,
    percent_form,
    multipart,
    multipart_file,
    multipart_binary,
    deep_json,
    escaped_json,
    undeclared_json,
    wide_json,
)
#: What the view has done with the body before it sends the task.
READ: dict[str, t.Callable[[], t.Any]] = {
    "unread": lambda: None,
    "form": lambda: (request.form, request.files),
    "data": lambda: request.get_data(),
    "json": lambda: request.get_json(silent=True),
}


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("encode", ENCODINGS)
def test_a_field_with_a_credential_stays_out(
    plain_shop: Shop,
    encode: t.Callable[[str], tuple[bytes, str]],
    read: str,
) -> None:
    """In whatever spelling, encoding and depth, and whatever the view has read of it,
    the field is missing in the message, and the fields beside it are there."""

    def view() -> t.Any:
        READ[read]()
        return capture_context()

    for name in FIELDS:
        body, kind = encode(name)
        headers = plain_shop.visit(view, data=body, content_type=kind)
        text = secrecy.readable(headers[secrecy.HEADER])
        assert CANARY not in text, name
        with restore_context(headers, plain_shop.flask):
            is_form = request.mimetype in FORM_TYPES
            arrived = request.form if is_form else request.get_json(force=True)
            assert KEPT in repr(arrived), name
            assert name not in request.form
            assert name not in request.files
            assert not is_form or request.data == b""  # As in the view.


@pytest.mark.parametrize("encode", ENCODINGS)
def test_a_field_that_only_sounds_alike_travels(
    plain_shop: Shop, encode: t.Callable[[str], tuple[bytes, str]]
) -> None:
    """A field whose name holds no pattern arrives, and the raw body is untouched."""
    for name in INNOCENT:
        body, kind = encode(name)
        headers = plain_shop.capture(data=body, content_type=kind)
        with restore_context(headers, plain_shop.flask):
            assert request.get_data() == body, name


def large(name: str) -> tuple[bytes, str]:
    """A multipart form with a file that is over the limit."""
    body, kind = multipart(name)
    edge = b'--edge\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
    return edge + b"x" * 100_000 + b"\r\n" + body, kind


def test_a_large_form_travels_without_its_password(plain_shop: Shop) -> None:
    """A form over the size limit that the view has parsed carries its fields, and not
    the excluded ones."""

    def view() -> t.Any:
        READ["form"]()
        return capture_context()

    body, kind = large("user[password]")
    headers = plain_shop.visit(view, data=body, content_type=kind)
    assert CANARY not in secrecy.readable(headers[secrecy.HEADER])
    with restore_context(headers, plain_shop.flask):
        assert request.form.to_dict(flat=False) == {"kept": [KEPT]}


def ndjson(name: str) -> tuple[bytes, str]:
    line = json.dumps({name: CANARY}).encode()
    return line + b"\n" + line + b"\n", "application/x-ndjson"


def marked_json(name: str) -> tuple[bytes, str]:
    return b"\xef\xbb\xbf" + deep_json(name)[0], "text/plain"


def wide_undeclared_json(name: str) -> tuple[bytes, str]:
    return wide_json(name)[0], "text/plain"


def broken_json(name: str) -> tuple[bytes, str]:
    return deep_json(name)[0][:-1], "application/json"


def many_parts(name: str) -> tuple[bytes, str]:
    """More parts than Werkzeug takes: the view gets a 413, or no form."""
    body, kind = multipart(name)
    part = b'--edge\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    return part * 1001 + body, kind


def long_field(name: str) -> tuple[bytes, str]:
    """A field longer than MAX_FORM_MEMORY_SIZE."""
    body, kind = multipart(name)
    return body.replace(KEPT.encode(), b"x" * 2000), kind


def cut_multipart(name: str) -> tuple[bytes, str]:
    """A form that ends before its last boundary, which Werkzeug gives up."""
    body, kind = multipart(name)
    return body.partition(b"--edge--")[0], kind


def headless_multipart(name: str) -> tuple[bytes, str]:
    body, kind = multipart(name)
    return b"--edge\r\nno header\r\n\r\nx\r\n" + body, kind


def boundless_multipart(name: str) -> tuple[bytes, str]:
    return multipart(name)[0], "multipart/form-data"


BROKEN = (
    ndjson,
    marked_json,
    wide_undeclared_json,
    broken_json,
    many_parts,
    long_field,
    cut_multipart,
    headless_multipart,
    boundless_multipart,
)


@pytest.mark.parametrize("read", ["unread", "data"])
@pytest.mark.parametrize("encode", BROKEN)
def test_a_body_that_cannot_be_searched_does_not_travel_as_it_is(
    encode: t.Callable[[str], tuple[bytes, str]], read: str
) -> None:
    """Where the fields cannot be told apart, no password is in the message."""
    made = secrecy.make_shop(
        {"broker_url": "memory://"}, MAX_FORM_MEMORY_SIZE=1000, MAX_FORM_PARTS=1000
    )

    def view() -> t.Any:
        READ[read]()
        return capture_context()

    body, kind = encode("password")
    headers = made.visit(view, data=body, content_type=kind)
    assert CANARY not in secrecy.readable(headers[secrecy.HEADER])


def test_numbers_and_order_of_json_survive_what_is_taken_out(plain_shop: Shop) -> None:
    """The rest of a JSON body has the values that the view would read."""
    value = {"z": 1, "a": [1.5, 2**80, None, True, "é"], "token": CANARY, "m": {}}
    body = json.dumps(value)
    headers = plain_shop.capture(data=body, content_type="application/json")
    del value["token"]
    with restore_context(headers, plain_shop.flask):
        assert request.get_json() == value
        assert list(request.get_json()) == list(value)
        assert request.content_length is not None


def test_own_patterns_take_the_place_of_the_default() -> None:
    """TASK_CONTEXT_EXCLUDE names what stays out, and that alone, in any spelling."""
    made = secrecy.make_shop(
        {"broker_url": "memory://"}, TASK_CONTEXT_EXCLUDE=["x-tenant", "*iban*", "pin"]
    )
    headers = made.capture(
        headers={"X-Tenant": CANARY, "X-Tenants": KEPT, "Authorization": KEPT},
        json={"userIban": CANARY, "PIN": CANARY, "spin": KEPT, "password": KEPT},
    )
    assert CANARY not in headers[secrecy.HEADER]
    with restore_context(headers, made.flask):
        assert request.headers["X-Tenants"] == KEPT
        assert request.headers["Authorization"] == KEPT
        assert request.get_json() == {"spin": KEPT, "password": KEPT}


# -- where a message can be read ---------------------------------------------------


def send_credentials(made: Shop) -> None:
    """Two requests full of credentials, one with a form and one with JSON."""
    secret = {
        "Authorization": f"Bearer {CANARY}",
        "Cookie": f"a={CANARY}",
        "X-API-Key": CANARY,
        "X-CSRF-Token": CANARY,
        "Accept": KEPT,
    }
    client = made.flask.test_client(use_cookies=False)
    for body in (
        {"json": {"user": [{"newPassword": CANARY, "name": KEPT}]}},
        {"data": {"user[password]": CANARY, "name": KEPT}},
        {"data": {"token": FileStorage(filename=CANARY), "name": KEPT}},
    ):
        response = client.post("/item/3", headers=secret, **body)
        assert response.status_code == 200, response.text


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def places(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("places")
    return secrecy.watch(request.param, folder, send_credentials)


PLACES = ("queue", "debug log", "unregistered", "events", "results")


@pytest.mark.parametrize("place", PLACES)
def test_no_credential_can_be_read_anywhere(places: dict[str, str], place: str) -> None:
    """Neither the broker, nor a log, nor a monitor, nor the result backend has it."""
    assert CANARY not in places[place]
    assert "shop.count" in places[place] or place == "unregistered"


def test_what_is_not_excluded_is_in_the_message_and_in_the_task(
    places: dict[str, str],
) -> None:
    """The task saw no credential, and a header and a field of each request."""
    assert KEPT in places["queue"]
    assert places["seen"] == "[[0, 2], [0, 2], [0, 2]]"


def test_with_nothing_excluded_the_same_places_show_it(tmp_path: Path) -> None:
    """The places above are those where an application's credentials would show."""
    seen = secrecy.watch("redis", tmp_path, send_credentials, TASK_CONTEXT_EXCLUDE=[])
    shown = [place for place in PLACES if CANARY in seen[place]]
    assert shown == ["queue", "debug log", "unregistered"]


# -- under wsgiref -------------------------------------------------------------------

SERVER = """
import sys
import wsgiref.simple_server
import werkzeug.serving
from flask_task_context import capture_context
from tests import secrecy

app = secrecy.create_app()
app.extensions["view"] = capture_context
if sys.argv[1] == "wsgiref":
    httpd = wsgiref.simple_server.make_server("127.0.0.1", 0, app)
else:
    httpd = werkzeug.serving.make_server("127.0.0.1", 0, app)
print(httpd.server_port, flush=True)
httpd.serve_forever()
"""


@contextlib.contextmanager
def server(kind: str, **environ: str) -> t.Iterator[int]:
    """A server in a process of its own; its view answers with what it captures."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, kind],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def test_no_variable_of_the_process_travels_under_wsgiref(plain_shop: Shop) -> None:
    """wsgiref mixes the process environment into the request: none of it is sent,
    whatever its name, and the visitor's own headers are."""
    names = [
        "AUTH_TYPE",
        "REMOTE_HOST",
        "REMOTE_IDENT",
        "REMOTE_PORT",
        "REMOTE_USER",
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "HTTP_PROXY",
        "HTTP_TENANT",
        "HTTP_SERVICE",
        "HTTP_ACCEPT_LANGUAGE",
        "HTTPS",
        "DATABASE_URL",
        "PATH_INFO",
        "QUERY_STRING",
        "REMOTE_ADDR",
        "REQUEST_METHOD",
        "REQUEST_URI",
        "SCRIPT_NAME",
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
    ]
    environ = {name: f"{CANARY}-{name}" for name in names}
    with server("wsgiref", **environ) as port:
        status, body = fetch(
            port,
            "GET",
            "/item/3?a=1",
            headers=[
                ("Host", "shop.example"),
                ("Tenant", "the visitor's"),
                ("X-Request-Id", KEPT),
            ],
        )
    assert status == 200, body
    header = json.loads(body)
    text = secrecy.readable(header[secrecy.HEADER])
    assert [name for name in names if f"{CANARY}-{name}" in text] == []
    with restore_context(header, plain_shop.flask):
        assert request.headers["Tenant"] == "the visitor's"
        assert request.headers["X-Request-Id"] == KEPT
        assert request.remote_addr == "127.0.0.1"
        assert request.url == "http://shop.example/item/3?a=1"


def test_a_variable_of_the_process_takes_no_header_away(plain_shop: Shop) -> None:
    """Where the server mixes nothing into the request, a header travels, also when a
    variable of the process has its name and value."""
    with server("werkzeug", HTTP_HOST="shop.example", HTTP_X_TENANT=KEPT) as port:
        visitor = [("Host", "shop.example"), ("X-Tenant", KEPT)]
        status, body = fetch(port, "GET", "/item/3", headers=visitor)
    assert status == 200, body
    with restore_context(json.loads(body), plain_shop.flask):
        assert request.url == "http://shop.example/item/3"
        assert request.headers["X-Tenant"] == KEPT


# -- from a task to the tasks that it sends ------------------------------------------


@pytest.mark.parametrize("encode", [deep_json, form, percent_form])
def test_a_body_without_its_password_travels_on(
    plain_shop: Shop, encode: t.Callable[[str], tuple[bytes, str]]
) -> None:
    """A task that captures again passes on the whole body that it has itself."""
    body, kind = encode("password")
    headers = plain_shop.capture(data=body, content_type=kind)
    with restore_context(headers, plain_shop.flask):
        again = capture_context()
        expected = request.get_data()
        assert request.content_length == len(expected)
    with restore_context(again, plain_shop.flask):
        assert request.get_data() == expected
