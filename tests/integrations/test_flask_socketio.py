"""docs/how-to/socketio.md, run as a reader would run it, and what it says of the rest."""

from __future__ import annotations

import doctest
import re
import typing as t

import pytest
import requests
from socketio import SimpleClient
from socketio.exceptions import TimeoutError as NothingReceived

from tests.conftest import ROOT
from tests.test_documentation import Folder
from tests.test_documentation import blocks_of
from tests.test_documentation import folder  # noqa: F401 - a fixture

PAGE = (ROOT / "docs" / "how-to" / "socketio.md").read_text()
[(_, _, LIVE)] = blocks_of(PAGE)
Connect = t.Callable[..., SimpleClient]
REDIS = '"redis://localhost"'

MORE = """
from flask import session, url_for
from flask_login import LoginManager, UserMixin, current_user, login_user
from flask_socketio import join_room


class User(UserMixin):
    def __init__(self, id):
        self.id = id


LoginManager(app).user_loader(User)


@app.get("/login/<name>")
def login(name):
    login_user(User(name))
    return ""


@socketio.on("connect")
@socketio.on("connect", namespace="/other")
def connect():
    if current_user.is_authenticated:
        join_room(current_user.id)


@celery.task
@with_request_context
def look(number):
    login = url_for("login", name=current_user.id, _external=True)
    emit("seen", [number, login, session["numbers"]])
    emit("news", number, to=current_user.id)
    emit("asked", number, callback=lambda *answer: print("called back", flush=True))
    print(f"has the event: {hasattr(request, 'event')}", flush=True)


@socketio.on("look")
@socketio.on("look", namespace="/other")
def send_look(number):
    session.setdefault("numbers", []).append(number)
    delay_with_context(look, number)


@app.get("/report")
def send_from_a_view():
    delay_with_context(write_report, "anna")
    return ""
"""


def start(folder: Folder, *more: str) -> str:  # noqa: F811
    """The page's commands; gives the server's URL."""
    assert LIVE.count(REDIS) == 2
    source = "\n\n".join([LIVE.replace(REDIS, repr(folder.redis)), *more])
    folder.write("live.py", f"{source}\n\n{folder.settings()}")
    _, worker, server, _ = re.findall(r"^\$ (.+?)(?: &)?$", PAGE, re.M)
    folder.start(f"{worker} --concurrency=2 -l INFO", " ready.")
    folder.start(server, "Running on")
    return f"http://127.0.0.1:{folder.port}"


@pytest.fixture
def connect(folder: Folder) -> t.Iterator[Connect]:  # noqa: F811
    clients: list[SimpleClient] = []

    def connect(url: str, namespace: str = "/", **options: t.Any) -> SimpleClient:
        clients.append(SimpleClient(reconnection=False, **options))
        clients[-1].connect(url, namespace=namespace)
        return clients[-1]

    yield connect
    folder.stack.close()  # first, since Werkzeug's server takes seconds to say goodbye
    for client in clients:
        client.disconnect()


def visitor(url: str, name: str) -> requests.Session:
    session = requests.Session()
    session.get(f"{url}/login/{name}", timeout=30)
    return session


def test_the_page(folder: Folder) -> None:  # noqa: F811
    """The page's client receives what the page says."""
    url = start(folder)
    examples = doctest.DocTestParser().get_doctest(
        PAGE.replace("http://localhost:5000", url).replace("```", ""),
        {},
        "docs/how-to/socketio.md",
        None,
        0,
    )
    result = doctest.DocTestRunner().run(examples, clear_globs=False)
    examples.globs["client"].disconnect()
    assert (result.attempted, result.failed) == (3, 0)


def test_only_the_client_that_asked(folder: Folder, connect: Connect) -> None:  # noqa: F811
    """Each receives its own, in its own namespace, with its user's request."""
    url = start(folder, MORE)
    anna = connect(url, http_session=visitor(url, "anna"))
    ben = connect(url, "/other", http_session=visitor(url, "ben"))
    other = connect(url, http_session=visitor(url, "cem"))
    anna.emit("look", 1)
    assert anna.receive(20) == ["seen", [1, f"{url}/login/anna", [1]]]
    ben.emit("look", 2)
    assert ben.receive(20) == ["seen", [2, f"{url}/login/ben", [2]]]
    other.emit("look", 3)
    assert other.receive(20) == ["seen", [3, f"{url}/login/cem", [3]]]
    received = [client.receive(20) for client in (anna, anna, ben, ben, other, other)]
    assert received == [[event, n] for n in (1, 2, 3) for event in ("news", "asked")]
    for client in (anna, ben, other):
        with pytest.raises(NothingReceived):
            client.receive(0.2)


def test_what_the_page_says_of_the_rest(folder: Folder, connect: Connect) -> None:  # noqa: F811
    """A room outlives a connection, the session is the connection's own, nothing is
    called back, and a view has no client."""
    url = start(folder, MORE)
    http = visitor(url, "anna")
    first, second = connect(url, http_session=http), connect(url, http_session=http)
    http.get(f"{url}/login/ben", timeout=30)
    second.client.on("asked", lambda number: "answer")
    for number, numbers in ((1, [1]), (2, [1, 2])):
        second.emit("look", number)
        seen = [number, f"{url}/login/anna", numbers]
        assert second.receive(20) == ["seen", seen]
        assert second.receive(20) == ["news", number]
        assert first.receive(20) == ["news", number]
    http.get(f"{url}/report", timeout=30)
    folder.wait_for("'Request' object has no attribute 'namespace'", "celery")
    log = folder.log("celery").read_text()
    assert "has the event: False" in log
    assert "called back" not in log
