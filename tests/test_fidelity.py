"""What the task sees of the request is what the view saw, attribute by attribute."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import inspect
import json
import re
import time
import typing as t
from pathlib import Path
from urllib.parse import quote

import flask
import pytest
from celery import Celery
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from kombu.exceptions import DecodeError

from flask_task_context import _EXCLUDE as DEFAULT
from flask_task_context import restore_context
from tests import observed
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.observed import Sent
from tests.observed import create_app
from tests.observed import multipart
from tests.observed import observe
from tests.observed import open_in_client
from tests.servers import COMMANDS
from tests.servers import WITHOUT_CHUNKED_BODIES
from tests.servers import serving_apart

FORM = ("Content-Type", "application/x-www-form-urlencoded")
JSON = ("Content-Type", "application/json")
WERKZEUG_2 = importlib.metadata.version("werkzeug") < "3"
CANARY = "postgresql://shop:canary-7731@localhost/"
CHROME = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
FIREFOX = "---------------------------9051914041544843365972754266"


def form_data(boundary: str) -> tuple[str, str]:
    return ("Content-Type", f"multipart/form-data; boundary={boundary}")


def post(body: bytes, *headers: tuple[str, str], **more: t.Any) -> Sent:
    return Sent("/item/3", "POST", headers, body, **more)


def proxied(*values: tuple[str, str], **more: t.Any) -> Sent:
    headers = tuple((f"X-Forwarded-{name}", value) for name, value in values)
    return Sent("/item/3", headers=headers, variant="proxied", **more)


CASES: dict[str, Sent] = {
    # -- methods
    **{method: Sent("/item/3", method) for method in observed.METHODS},
    "a custom method with a body": Sent("/item/3", "PURGE", (JSON,), b"[1]"),
    # -- targets
    "root": Sent("/"),
    "no host, HTTP 1.0": Sent("/", host=None, protocol="HTTP/1.0"),
    "query": Sent(
        "/item/3?q=1&q=%C3%A9&empty=&bare&q=2&%E2%82%AC=%26&plus=a+b%2Bc&;=;",
        expected={
            "full_path": "/item/3?q=1&q=%C3%A9&empty=&bare&q=2&%E2%82%AC=%26&plus=a+b%2Bc&;=;"
        },
    ),
    "query with a broken escape": Sent("/item/3?q=%&q=%zz&q=%ff&q=%C3"),
    "query alone": Sent("/?"),
    "unicode path": Sent("/name/%C3%BC%20%E2%82%AC%F0%9F%8D%90"),
    "latin-1 path": Sent("/name/%FC"),
    "escaped slash": Sent(
        "/deep/a%2Fb/c%252Fd%3Fe", expected={"path": "/deep/a/b/c%2Fd?e"}
    ),
    "reserved characters": Sent("/name/a;b=c,d:e@f$g!h'(i)*+~"),
    "line end and NUL": Sent("/name/a%0D%0A%00b", expected={"path": "/name/a\r\n\0b"}),
    "double slash": Sent("/deep/a//b"),
    # -- routing
    "converted list": Sent("/numbers/1+22+3"),
    "converted values": Sent("/price/9.90/1.5/12345678-1234-5678-1234-567812345678"),
    "one of any": Sent("/kind/b"),
    "route defaults": Sent("/page/"),
    "redirect to route defaults": Sent("/page/1", stage="before_request"),
    "missing slash": Sent("/page?x=1", stage="before_request"),
    "blueprint": Sent("/fr/sibling"),
    "nested blueprint": Sent("/fr/inner/5"),
    "404 in before_request": Sent("/no/where/here", stage="before_request"),
    "404 in an error handler": Sent(
        "/no/where/here?x=1", "POST", (FORM,), b"a=1", stage="error handler"
    ),
    "405 in an error handler": Sent(
        "/get", "POST", (JSON,), b"1", stage="error handler"
    ),
    "404 of a converter": Sent("/item/x", stage="error handler"),
    "in after_request": Sent("/item/3", "POST", (FORM,), b"a=1", stage="after_request"),
    "in teardown": Sent("/item/3", "POST", (FORM,), b"a=1", stage="teardown_request"),
    # -- headers
    "many headers": Sent(
        "/item/3",
        headers=(
            ("Accept", "text/html;q=0.9, application/json, */*;q=0.1"),
            ("Accept-Charset", "utf-8, iso-8859-1;q=0.5"),
            ("Accept-Encoding", "gzip, br;q=0.8"),
            ("Accept-Language", "de-CH,de;q=0.9,en;q=0.3"),
            ("Access-Control-Request-Headers", "X-One, X-Two"),
            ("Access-Control-Request-Method", "PUT"),
            ("Cache-Control", "max-age=0, no-cache"),
            ("Content-Encoding", "identity"),
            ("Content-MD5", "Q2hlY2sgSW50ZWdyaXR5IQ=="),
            ("Date", "Sun, 22 Nov 2026 09:39:00 GMT"),
            ("If-Match", '"a", W/"b"'),
            ("If-Modified-Since", "Sun, 22 Nov 2026 09:39:00 GMT"),
            ("If-None-Match", "*"),
            ("If-Range", '"a"'),
            ("If-Unmodified-Since", "Sun, 22 Nov 2026 09:39:00 GMT"),
            ("Max-Forwards", "3"),
            ("Origin", "https://elsewhere.example"),
            ("Pragma", "no-cache"),
            ("Range", "bytes=0-99,200-"),
            ("Referer", "https://elsewhere.example/?q=1"),
            ("User-Agent", "Mozilla/5.0 (X11; Linux) Gecko/20100101 Firefox/1.0"),
            ("X-Empty", ""),
        ),
    ),
    "headers that are nonsense": Sent(
        "/item/3",
        headers=(
            ("Accept", ";;q=,="),
            ("Date", "yesterday"),
            ("If-Range", "yesterday"),
            ("Max-Forwards", "many"),
            ("Range", "furlongs=1"),
            ("Content-Type", "nonsense"),
            ("Authorization", "Basic =="),
        ),
    ),
    "latin-1 headers": Sent(
        "/item/3", headers=(("X-Name", "J\xfcrgen \xff"), ("User-Agent", "\xc3\xa9"))
    ),
    "repeated headers": Sent(
        "/item/3",
        headers=(
            ("X-One", "a"),
            ("X-Two", "b"),
            ("X-One", "c,d"),
            ("Accept", "a/b"),
            ("Accept", "c/d"),
        ),
    ),
    "cookies": Sent(
        "/item/3",
        headers=(("Cookie", 'a=1; b="x\\054y"; a=2; \xc3\xa9=\xc3\xa9; bare'),),
    ),
    "basic authorization": Sent(
        "/item/3", headers=(("Authorization", "Basic w7xzZXI6cMOkc3M6d29yZA=="),)
    ),
    "bearer authorization": Sent(
        "/item/3", headers=(("Authorization", "Bearer abc.def="),)
    ),
    "digest authorization": Sent(
        "/item/3",
        headers=(
            (
                "Authorization",
                'Digest username="u", realm="r", nonce="n", uri="/", response="x", qop=auth',
            ),
        ),
    ),
    # -- hosts
    "host with port": Sent("/item/3", host="shop.example:8080"),
    "host with default port": Sent("/item/3", host="shop.example:443"),
    "IPv6 host": Sent(
        "/item/3", host="[2001:db8::1]:8080", expected={"host": "[2001:db8::1]:8080"}
    ),
    "IPv6 host without port": Sent("/item/3", host="[::1]"),
    "upper-case host": Sent("/item/3", host="Shop.EXAMPLE"),
    "internationalized host": Sent("/item/3", host="xn--bcher-kva.example"),
    "subdomain": Sent(
        "/on",
        host="anna.shop.example",
        variant="subdomains",
        expected={"view_args": ["builtins.dict", [["name", "anna"]], {}]},
    ),
    "no subdomain": Sent("/item/3", host="shop.example", variant="subdomains"),
    "host matching": Sent("/on", host="ben.example:8080", variant="hosts"),
    "another host of host matching": Sent(
        "/item/3", host="inner.example", variant="hosts"
    ),
    "a host that matches nothing": Sent(
        "/item/3", host="x.y", variant="hosts", stage="error handler"
    ),
    # -- around the app
    "script root": Sent(
        "/my%20sh%C3%B6p/item/3?x=1",
        variant="mounted",
        expected={"script_root": "/my shöp"},
    ),
    "script root alone": Sent(
        "/my%20sh%C3%B6p", variant="mounted", stage="before_request"
    ),
    "all of ProxyFix": proxied(
        ("For", "203.0.113.9"),
        ("Proto", "https"),
        ("Host", "ben.example"),
        ("Port", "8443"),
        ("Prefix", "/shop"),
        expected={
            "url": "https://ben.example:8443/shop/item/3",
            "remote_addr": "203.0.113.9",
            "is_secure": True,
        },
    ),
    "ProxyFix with IPv6": proxied(
        ("For", "[2001:db8::7]"), ("Host", "[2001:db8::2]"), ("Proto", "http")
    ),
    "ProxyFix without its headers": proxied(),
    "ProxyFix with two proxies": proxied(
        ("For", "1.1.1.1, 2.2.2.2"), ("Proto", "http,https")
    ),
    "remote user": Sent(
        "/item/3", variant="signed in", expected={"remote_user": "anna"}
    ),
    # -- bodies
    "no body": Sent("/item/3", "POST", (("Content-Type", "text/plain"),)),
    "empty body": post(b"", FORM),
    "empty JSON": post(b"", JSON),
    "body without a type": post(b"a=1"),
    "body of GET": Sent("/item/3", "GET", (JSON,), b'{"a": 1}'),
    "text": post(
        "grüße".encode("latin-1"), ("Content-Type", "text/plain; charset=latin-1")
    ),
    "bytes": post(bytes(range(256)), ("Content-Type", "application/octet-stream")),
    "NULs": post(b"\0\0a\0", ("Content-Type", "application/x-thing")),
    "urlencoded": Sent(
        "/item/3?a=0",
        "POST",
        (FORM,),
        b"a=1&b=%C3%A9&a=2&bare&=nameless&plus=a+b&a=&%00=%00",
    ),
    "urlencoded, not UTF-8": post(b"a=%FC&%FF=1", FORM),
    # Werkzeug 2 raises where such a form is touched first, and never again.
    **({} if WERKZEUG_2 else {"urlencoded, not ASCII": post(b"a=\xfc", FORM)}),
    "urlencoded with a charset": post(
        b"a=%FC", (FORM[0], f"{FORM[1]}; charset=latin-1")
    ),
    "urlencoded of PUT": Sent("/item/3", "PUT", (FORM,), b"a=1&a=2"),
    "multipart of Chrome": post(
        multipart(
            CHROME,
            ('Content-Disposition: form-data; name="to"', b"x"),
            ('Content-Disposition: form-data; name="to"', "ü\r\n€".encode()),
            (
                'Content-Disposition: form-data; name="file"; filename="für %22dich%22 \U0001f350.txt"\r\nContent-Type: text/plain',
                b"one\r\ntwo\0",
            ),
            (
                'Content-Disposition: form-data; name="file"; filename=""\r\nContent-Type: application/octet-stream',
                b"",
            ),
        ),
        form_data(CHROME),
    ),
    "multipart of Firefox": post(
        multipart(
            FIREFOX,
            ('Content-Disposition: form-data; name="a\\"b"', b""),
            (
                'Content-Disposition: form-data; name="photo"; filename="C:\\\\temp\\\\p.png"\r\nContent-Type: image/png',
                bytes(range(256)) * 4,
            ),
            (
                'Content-Disposition: form-data; name="photo"; filename="2"\r\nContent-Type: image/png; charset=x\r\nX-More: y',
                b"\0",
            ),
        ),
        form_data(FIREFOX),
    ),
    "multipart with RFC 2231 names": post(
        multipart(
            "b",
            (
                "Content-Disposition: form-data; name=\"f\"; filename*=UTF-8''%e2%82%ac.txt",
                b"x",
            ),
        ),
        form_data('"b"'),
    ),
    "multipart without files": post(
        multipart("b", ('Content-Disposition: form-data; name="a"', b"1")),
        form_data("b"),
    ),
    "multipart with nothing in it": post(b"--b--\r\n", form_data("b")),
    "multipart cut short": post(
        multipart("b", ('Content-Disposition: form-data; name="a"', b"1"))[:-9],
        form_data("b"),
    ),
    "multipart without a boundary": post(
        b"--b--\r\n", ("Content-Type", "multipart/form-data")
    ),
    "chunked": post(b"0123456789" * 5, ("Content-Type", "text/plain"), chunked=True),
    "chunked form": post(b"a=1&a=2&b=%C3%A9", FORM, chunked=True),
    "chunked multipart": post(
        multipart(
            "b", ('Content-Disposition: form-data; name="a"; filename="f"', b"1")
        ),
        form_data("b"),
        chunked=True,
    ),
    "chunked JSON": post(b'{"a": [1, 2, {}]}', JSON, chunked=True),
    "chunked and empty": post(b"", JSON, chunked=True),
    **{
        f"JSON {text}": post(text.encode(), JSON)
        for text in (
            "null",
            "true",
            "0",
            "-1.5e300",
            "123456789012345678901234567890",
            '""',
            '"\\u00fc\\ud83c\\udf50\\u0000"',
            "[]",
            "[[1], {}]",
            "{}",
            '{"a": {"b": [null, true, 1.0, "x"]}, "": 1}',
            "NaN",
            " \n[1]\n ",
        )
    },
    "JSON in UTF-8": post('{"ü": "€"}'.encode(), JSON),
    "JSON in UTF-16": post('{"ü": "€"}'.encode("utf-16"), JSON),
    "JSON with a type of its own": post(
        b'{"a": 1}', ("Content-Type", "application/problem+json; charset=utf-8")
    ),
    "JSON of another type": post(b'{"a": 1}', ("Content-Type", "text/plain")),
    "broken JSON": post(b'{"a": ', JSON),
    "JSON that is not UTF-8": post(b'"\xff"', JSON),
}


# -- the servers --------------------------------------------------------------


class Server:
    """Some way to send a request to the app, and what the view then wrote down."""

    def __init__(
        self, folder: Path, deliver: t.Callable[[Sent], None], name: str = "client"
    ) -> None:
        self.folder, self.deliver, self.name = folder, deliver, name

    def send(self, sent: Sent, capture_first: bool) -> t.Any:
        answer = self.folder / "seen.json"
        answer.unlink(missing_ok=True)
        (self.folder / "next.json").write_text(sent.order(capture_first))
        self.deliver(sent)
        deadline = time.monotonic() + 60
        while not answer.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        return json.loads(answer.read_text())


def deliver_to(port: int) -> t.Callable[[Sent], None]:
    def deliver(sent: Sent) -> None:
        # Servers that close a connection with something unread on it reset it.
        with contextlib.suppress(ConnectionResetError):
            observed.exchange(("127.0.0.1", port), sent.bytes())

    return deliver


USUAL = ("client", "gunicorn sync", "wsgiref")
SERVERS = [
    pytest.param(name, marks=() if name in USUAL else pytest.mark.thorough)
    for name in ("client", *COMMANDS)
]


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    if request.param == "client":
        apps = {v: create_app(v, FOLDER=str(folder)) for v in observed.VARIANTS}
        yield Server(folder, lambda sent: open_in_client(apps[sent.variant], sent))
        return
    environ = {"OBSERVED_FOLDER": str(folder), "DATABASE_URL": CANARY}
    with serving_apart(
        request.param, "tests.observed_server:application", folder / "log", environ
    ) as port:
        yield Server(folder, deliver_to(port), request.param)


# -- view and task ------------------------------------------------------------


app_of = functools.cache(create_app)


def in_task(captured: dict[str, str], app: flask.Flask) -> t.Any:
    with restore_context(captured, app):
        return json.loads(json.dumps(observe()))


def differences(view: t.Any, task: t.Any, path: str = "") -> list[str]:
    """Where the two differ, one line each."""
    if isinstance(view, list) and isinstance(task, list) and len(view) == len(task):
        view, task = dict(enumerate(view)), dict(enumerate(task))
    if not isinstance(view, dict) or not isinstance(task, dict):
        same = view == task
        return [] if same else [f"{path}: {view!r} in the view, {task!r} in the task"]
    lines = []
    for key in {**view, **task}:
        parts = view.get(key, "(nothing)"), task.get(key, "(nothing)")
        lines += differences(*parts, f"{path}.{key}")
    return lines


@pytest.mark.parametrize("name", CASES)
def test_every_attribute_is_equal(server: Server, name: str) -> None:
    """All that the view saw, captured before or after it looked, the task sees."""
    sent = CASES[name]
    app = app_of(sent.variant)
    seen, captures = server.send(sent, capture_first=True)
    for captured in captures:
        assert differences(seen, in_task(captured, app)) == []
    looked_first, [captured] = server.send(sent, capture_first=False)
    assert differences(looked_first, in_task(captured, app)) == []
    for attribute, value in sent.expected.items():
        assert seen["request"][attribute] == value
    # And capturing changed nothing of what the view sees.
    assert differences(looked_first, seen) == []


def test_a_chunked_form_is_there(server: Server) -> None:
    """Where the server reads chunked bodies, the view and the task have the form."""
    seen, captures = server.send(CASES["chunked form"], capture_first=True)
    read_by_server = server.name not in WITHOUT_CHUNKED_BODIES
    fields = [["a", "1"], ["a", "2"], ["b", "é"]] if read_by_server else []
    for observation in (seen, in_task(captures[0], app_of())):
        pairs = observation["request"]["form"][1]
        assert [pair[1] for pair in pairs] == fields


def test_every_attribute_is_looked_at() -> None:
    """The observation leaves out no public attribute but those that it names."""
    with app_of().test_request_context("/item/3"):
        looked_at = set(observe()["request"])
    for name in dir(flask.Request):
        value = inspect.getattr_static(flask.Request, name)
        if not name.startswith("_") and not inspect.isroutine(value):
            assert (name in looked_at) is (name not in observed.NOT_COMPARED), name
    assert {"path", "headers", "server", "root_path", "query_string"} <= looked_at


@pytest.mark.parametrize("name", ["many headers", "urlencoded", "multipart of Chrome"])
def test_by_default_only_credentials_are_missing(tmp_path: Path, name: str) -> None:
    """With the default settings the task lacks the credentials, and nothing else."""
    config = {"FOLDER": str(tmp_path), "TASK_CONTEXT_EXCLUDE": DEFAULT}
    app = create_app(**config)
    server = Server(tmp_path, lambda sent: open_in_client(app, sent))
    credentials = (
        ("Cookie", "id=1"),
        ("Authorization", "Bearer x"),
        ("X-Api-Key", "k"),
    )
    plain = CASES[name]
    seen, captures = server.send(plain, True)
    sent = plain._replace(headers=(*plain.headers, *credentials))
    _, more_captures = server.send(sent, True)
    for captured in captures + more_captures:
        assert differences(seen, in_task(captured, app_of())) == []


@pytest.mark.parametrize("name", ["many headers", "bytes", "multipart of Firefox"])
def test_every_attribute_is_equal_when_encrypted(tmp_path: Path, name: str) -> None:
    """Encryption changes nothing of what the task sees."""
    pytest.importorskip("cryptography")
    config = {"FOLDER": str(tmp_path), "TASK_CONTEXT_ENCRYPT": True}
    app = create_app(**config)
    server = Server(tmp_path, lambda sent: open_in_client(app, sent))
    seen, captures = server.send(CASES[name], True)
    task_app = create_app(TASK_CONTEXT_ENCRYPT=True)
    for captured in captures:
        assert differences(seen, in_task(captured, task_app)) == []


# -- in a worker's process ----------------------------------------------------


@pytest.fixture(scope="module")
def observer(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[t.Any]:
    """A task that observes, and the worker that runs it."""
    folder = tmp_path_factory.mktemp("worker")
    conf = celery_settings("embedded", folder)
    worker = Worker(conf, folder / "worker.log", module="tests.observed_worker")
    app = Celery("observed", set_as_current=False)
    app.conf.update(conf)
    yield app.task(observe, name="observed.observe", shared=False)
    worker.kill()
    app.close()


IN_WORKER = (
    "query",
    "unicode path",
    "line end and NUL",
    "converted values",
    "nested blueprint",
    "404 in an error handler",
    "latin-1 headers",
    "IPv6 host",
    "bytes",
    "urlencoded",
    "multipart of Chrome",
    "chunked JSON",
    "HEAD",
)


def test_every_attribute_is_equal_in_a_worker(server: Server, observer: t.Any) -> None:
    """A worker's process sees what the server's process saw, and nothing of that
    process's environment was sent."""
    sent = []
    for name in IN_WORKER:
        seen, captures = server.send(CASES[name], True)
        assert CANARY not in str(captures)
        sent += [(seen, observer.apply_async(headers=header)) for header in captures]
    for seen, result in sent:
        assert differences(seen, arrived(result)) == []


def arrived(result: t.Any) -> t.Any:
    """The result; a file of Celery's that is only half written is read again."""
    for _ in range(100):
        with contextlib.suppress(DecodeError):
            return result.get(timeout=60)
        time.sleep(0.1)
    raise TimeoutError(result.id)


# -- requests that nobody thought of ------------------------------------------

letters = st.text(st.characters(codec="utf-8"), max_size=8)
escaped = st.binary(max_size=8).map(lambda b: "".join(f"%{n:02X}" for n in b))
segments = letters.filter(lambda text: text not in ("", ".", "..")).map(
    lambda text: quote(text, safe="")
)
targets = st.one_of(
    st.just("/item/3"),
    segments.map("/name/{}".format),
    st.lists(segments, min_size=1).map(lambda parts: "/deep/" + "/".join(parts)),
    escaped.map("/name/{}".format),
    st.lists(st.integers(0, 10**30), min_size=1).map(
        lambda numbers: "/numbers/" + "+".join(map(str, numbers))
    ),
)
graphic = [chr(n) for n in (*range(0x21, 0x7F), *range(0xA1, 0x100))]
queries = st.text(st.sampled_from([c for c in graphic if c.isascii() and c != "#"]))
header_names = st.one_of(
    st.sampled_from(("Accept", "Accept-Language", "Cookie", "Range", "Referer")),
    st.sampled_from(("Authorization", "Cache-Control", "If-Match", "Origin", "Date")),
    st.from_regex(r"X-[A-Za-z0-9]{1,5}", fullmatch=True),
)
header_values = st.text(st.sampled_from([*graphic, " "])).map(lambda v: v.strip(" "))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | letters,
    lambda inner: st.lists(inner) | st.dictionaries(letters, inner),
    max_leaves=8,
)
disposition = 'Content-Disposition: form-data; name="{}"'
parts = st.tuples(
    st.one_of(
        segments.map(disposition.format),
        st.tuples(segments, letters).map(
            lambda names: (
                disposition.format(names[0])
                + '; filename="{}"'.format(re.sub(r'["\\\r\n]', "_", names[1]))
            )
        ),
    ),
    st.binary(max_size=200),
)
bodies = st.one_of(
    st.just((None, None)),
    st.tuples(st.none() | st.just("application/x-thing"), st.binary()),
    st.tuples(st.just(FORM[1]), escaped.map(str.encode)),
    st.tuples(st.just(FORM[1]), queries.map(str.encode)),
    st.tuples(st.just(JSON[1]), json_values.map(lambda v: json.dumps(v).encode())),
    st.tuples(
        st.just(form_data("b0undary")[1]),
        st.lists(parts, max_size=4).map(lambda p: multipart("b0undary", *p)),
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    content_type, body = draw(bodies)
    headers = draw(st.lists(st.tuples(header_names, header_values), max_size=6))
    if content_type:
        headers.append(("Content-Type", content_type))
    query = draw(st.none() | queries)
    return Sent(
        draw(targets) + ("" if query is None else f"?{query}"),
        draw(st.sampled_from(observed.METHODS)),
        tuple(headers),
        body,
        stage="before_request",
        host=draw(st.sampled_from(("shop.example", "a.b:81", "[::1]:80", "1.2.3.4"))),
        chunked=body is not None and draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(sent=requests(), capture_first=st.booleans())
def test_every_attribute_of_any_request_is_equal(
    server: Server, sent: Sent, capture_first: bool
) -> None:
    """Whatever the request, the task sees what the view saw."""
    seen, captures = server.send(sent, capture_first)
    for captured in captures:
        assert differences(seen, in_task(captured, app_of())) == []
