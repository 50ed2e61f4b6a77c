"""The errors of docs/troubleshooting.md, as they are really printed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
import typing as t
import uuid
from pathlib import Path

import amqp
import flask
import flask_babel
import flask_login
import kombu.exceptions
import pytest
from celery import Celery
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm.exc import DetachedInstanceError
from werkzeug.exceptions import BadRequestKeyError
from werkzeug.exceptions import SecurityError

from flask_task_context import BadContext
from flask_task_context import CaptureError
from flask_task_context import LeftOut
from flask_task_context import capture_context
from flask_task_context import delay_with_context
from flask_task_context import init_app
from flask_task_context import with_request_context
from tests.conftest import NO_REQUEST
from tests.conftest import ROOT
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.conftest import drop_queue

COMING_FROM = (ROOT / "docs" / "how-to" / "coming-from.md").read_text()
ERRORS = (ROOT / "docs" / "reference" / "errors.md").read_text()
FAQ = (ROOT / "docs" / "troubleshooting.md").read_text()
QUESTIONS = re.findall(r"^##+ `(.*)`$", FAQ, re.M)


def is_answered(error: BaseException | str) -> bool:
    """Whether a question of the page is the beginning of what is printed."""
    printed = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    printed = " ".join(printed.split())
    patterns = [re.escape(question).replace(r"\.\.\.", ".*") for question in QUESTIONS]
    return any(re.match(f"(amqp.exceptions.)?{p}", printed) for p in patterns)


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, id: str) -> None:  # noqa: A002
        self.id = id


class Lab:
    """A Flask app, and a Celery app whose tasks run in this process."""

    def __init__(self) -> None:
        self.flask = flask.Flask("shop")
        self.flask.config["SECRET_KEY"] = "key"
        flask_login.LoginManager(self.flask).user_loader(User)
        self.celery = Celery("shop", broker="memory://", set_as_current=False)

    def run(self, body: t.Callable[..., t.Any], *args: t.Any) -> t.Any:
        """As a task, outside of any request."""
        return self.task(body).apply(args).get()

    def task(self, body: t.Callable[..., t.Any]) -> t.Any:
        return self.celery.task(body, name=uuid.uuid4().hex, shared=False)

    def restored(self, body: t.Callable[..., t.Any]) -> t.Any:
        """As a decorated task, in a request that its message carries."""
        init_app(self.flask)
        with self.flask.test_request_context("/", headers={"Accept-Language": "de"}):
            flask_login.login_user(User("anna"))
            headers = capture_context()
        return self.task(with_request_context(body)).apply(headers=headers).get()


@pytest.fixture
def lab() -> t.Iterator[Lab]:
    lab = Lab()
    yield lab
    lab.celery.close()


def path() -> str:
    return flask.request.path


def data() -> bytes:
    return flask.request.get_data()


def test_another_key(lab: Lab) -> None:
    """A worker with another ``SECRET_KEY`` says so."""
    with lab.flask.test_request_context("/"):
        headers = capture_context()
    lab.flask.config["SECRET_KEY"] = "another"
    init_app(lab.flask)
    task = lab.task(with_request_context(path))
    with pytest.raises(BadContext, match="does not have") as raised:
        task.apply(headers=headers).get()
    assert is_answered(raised.value)
    ids = r"The context's key has the id '[\w-]{6}', and this process has '[\w-]{6}'\."
    assert re.search(ids + "$", str(raised.value))
    assert re.search(ids + r" It was sent by '.*'\.$", FAQ, re.M)


def test_no_app(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker that has met no Flask app says so."""
    monkeypatch.delenv("FLASK_APP", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="No Flask app") as raised:
        lab.run(with_request_context(path))
    assert is_answered(raised.value)


def test_a_body_that_is_too_large(lab: Lab) -> None:
    """It raises where the task touches it, and nowhere else."""
    init_app(lab.flask)
    with lab.flask.test_request_context("/", method="POST", data=b"x" * 100_000):
        headers = capture_context()
    read_path = lab.task(with_request_context(path))
    read_data = lab.task(with_request_context(data))
    assert read_path.apply(headers=headers).get() == "/"
    with pytest.raises(LeftOut, match="did not travel") as raised:
        read_data.apply(headers=headers).get()
    assert is_answered(raised.value)


def test_an_async_task(lab: Lab) -> None:
    """It is refused; a plain task that runs the coroutine has the request in it."""

    async def work() -> str:
        return path()

    def run() -> str:
        return asyncio.run(work())

    with pytest.raises(TypeError, match="is an async function") as raised:
        with_request_context(work)
    assert is_answered(raised.value)
    assert lab.restored(run) == "/"


def test_outside_of_a_request(lab: Lab) -> None:
    """``request`` raises in a plain task, and is there in a decorated one."""

    with pytest.raises(RuntimeError, match=NO_REQUEST) as raised:
        lab.run(path)
    assert is_answered(raised.value)
    assert lab.restored(path) == "/"


def test_a_command_sends_no_request(lab: Lab) -> None:
    """``delay_with_context`` in an app context alone, as in a CLI command, has none to
    send; inside a request of one's own it has."""
    lab.celery.conf.task_always_eager = True
    init_app(lab.flask)
    task = lab.task(with_request_context(path))
    with lab.flask.app_context():
        result = delay_with_context(task)
    with pytest.raises(RuntimeError, match=NO_REQUEST) as raised:
        result.get()
    assert is_answered(raised.value)
    with lab.flask.test_request_context("/own", base_url="https://shop.example"):
        assert delay_with_context(task).get() == "/own"
        headers = capture_context()
    assert task.apply(headers=headers).get() == "/own"


def test_links_on_one_host(lab: Lab) -> None:
    """``SERVER_NAME`` is the host of links in the view as in the task; without it, the
    visitor's is."""
    assert "# Links in a task are not on the visitor's host" in FAQ
    lab.flask.add_url_rule("/", "index", lambda: "")
    init_app(lab.flask)

    def link() -> str:
        return flask.url_for("index", _external=True)

    task = lab.task(with_request_context(link))
    # Before 3.1 Flask serves no host that does not end with it.
    for server_name in ("shop.example", None):
        lab.flask.config["SERVER_NAME"] = server_name
        expected = f"http://{server_name or 'anna.shop.example'}/"
        with lab.flask.test_request_context("/", base_url="http://anna.shop.example/"):
            assert link() == expected
            headers = capture_context()
        assert task.apply(headers=headers).get() == expected


@pytest.mark.skipif(
    "TRUSTED_HOSTS" not in flask.Flask.default_config, reason="Flask 3.1 has it"
)
def test_a_host_that_the_worker_does_not_trust(lab: Lab) -> None:
    """The view refuses other hosts, and a worker with the same list builds links."""
    lab.flask.config["TRUSTED_HOSTS"] = ["anna.example"]
    sent: list[dict[str, str]] = []

    @lab.flask.get("/")
    def index() -> str:
        sent.append(capture_context())
        return ""

    init_app(lab.flask)

    def link() -> str:
        return flask.url_for("index", _external=True)

    task = lab.task(with_request_context(link))
    for host, status in (("anna.example", 200), ("made-up.example", 400)):
        answer = lab.flask.test_client().get("/", base_url=f"http://{host}")
        assert answer.status_code == status
    (headers,) = sent
    assert task.apply(headers=headers).get() == "http://anna.example/"
    lab.flask.config["TRUSTED_HOSTS"] = ["ben.example"]
    with pytest.raises(AttributeError) as raised:
        task.apply(headers=headers).get()
    assert is_answered(raised.value)

    def host() -> str:
        return flask.request.host

    with pytest.raises(SecurityError) as refused:
        lab.task(with_request_context(host)).apply(headers=headers).get()
    assert f"SecurityError: {refused.value.code} {refused.value.name}" in " ".join(
        FAQ.split()
    )


def password() -> str:
    return flask.request.form["password"]


def test_a_field_that_stays_out(lab: Lab) -> None:
    """The error is Werkzeug's, and its note the documentation's; both settings let it travel."""
    init_app(lab.flask)
    task = lab.task(with_request_context(password))

    def send(**config: t.Any) -> t.Any:
        lab.flask.config.update(config)
        form = {"password": "x"}
        cookie = {"Cookie": "a=1"}
        with lab.flask.test_request_context(
            "/", method="POST", data=form, headers=cookie
        ):
            headers = capture_context()
        return task.apply(headers=headers)

    result = send()
    with pytest.raises(BadRequestKeyError) as raised:
        result.get()
    assert is_answered(raised.value)
    if sys.version_info >= (3, 11):
        (note,) = raised.value.__notes__
        assert note in " ".join(ERRORS.split())
        assert note in result.traceback
    assert send(TASK_CONTEXT_EXCLUDE=["cookie"]).get() == "x"
    pytest.importorskip("cryptography")
    encrypted = send(TASK_CONTEXT_ENCRYPT=True, TASK_CONTEXT_EXCLUDE=None)
    assert encrypted.get() == "x"


def test_outside_of_an_app(lab: Lab) -> None:
    """``current_app`` raises in a plain task; a decorated one has it, request or not."""

    def name() -> str:
        return flask.current_app.name

    with pytest.raises(RuntimeError, match="outside of application") as raised:
        lab.run(name)
    assert is_answered(raised.value)
    init_app(lab.flask)
    assert lab.run(with_request_context(name)) == "shop"


def test_a_url_without_a_request(lab: Lab) -> None:
    """An app context does not know the host; the request does."""
    lab.flask.add_url_rule("/", "index", lambda: "")

    def link() -> str:
        return flask.url_for("index", _external=True)

    def link_in_app_context() -> str:
        with lab.flask.app_context():
            return link()

    with pytest.raises(RuntimeError, match="Unable to build URLs") as raised:
        lab.run(link_in_app_context)
    assert is_answered(raised.value)
    assert lab.restored(link) == "http://localhost/"


def test_a_hidden_argument(lab: Lab) -> None:
    """Celery refuses it when the task is sent."""

    def add(x: int) -> None:
        pass

    with pytest.raises(TypeError, match="unexpected keyword") as raised:
        lab.task(add).apply_async((1,), {"_flask_request_context": {}})
    assert is_answered(raised.value)


@pytest.mark.parametrize(
    "name", ["Request", "User", "EnvironHeaders", "SecureCookieSession", "function"]
)
def test_an_argument_that_is_not_json(name: str, lab: Lab) -> None:
    """What belongs to the request is no argument; the documentation names each."""

    def add(x: t.Any) -> None:
        pass

    with lab.flask.test_request_context():
        flask_login.login_user(User("anna"))
        value = {
            "Request": flask.request,
            "User": flask_login.current_user,
            "EnvironHeaders": flask.request.headers,
            "SecureCookieSession": flask.session,
            "function": flask.copy_current_request_context(add),
        }[name]
        message = f"^Object of type {name} is not JSON serializable$"
        with pytest.raises(kombu.exceptions.EncodeError, match=message) as raised:
            lab.task(add).delay(value)
    assert is_answered(raised.value) == (name == "Request")
    assert f"`{name}`" in FAQ or f"type {name} is" in FAQ + COMING_FROM


def test_no_user(lab: Lab) -> None:
    """``None`` without a request, anonymous in an empty one, the visitor in theirs."""

    def user_id() -> str:
        return t.cast("str", flask_login.current_user.id)

    def in_app_context() -> str:
        with lab.flask.app_context():
            return user_id()

    def in_empty_request() -> str:
        with lab.flask.test_request_context():
            return user_id()

    for body in (user_id, in_app_context):
        with pytest.raises(AttributeError, match="'NoneType' object") as raised:
            lab.run(body)
        assert is_answered(raised.value)
    with pytest.raises(AttributeError, match="'AnonymousUserMixin' object has no"):
        lab.run(in_empty_request)
    assert lab.restored(user_id) == "anna"
    keys = re.findall(r"`(_\w+)`", FAQ[: FAQ.index("# `AttributeError: user`")])
    lab.flask.config["SESSION_PROTECTION"] = "strong"
    lab.flask.config["TASK_CONTEXT_SESSION"] = keys
    assert lab.restored(user_id) == "anna"
    lab.flask.config["TASK_CONTEXT_SESSION"] = ["cart"]
    with pytest.raises(AttributeError, match="'AnonymousUserMixin' object has no"):
        lab.restored(user_id)


def visitor() -> str:
    return t.cast("str", flask.g.user)


def test_an_attribute_of_g_that_does_not_travel(lab: Lab) -> None:
    """A before-request function that runs in the task sets it again."""
    init_app(lab.flask)

    def load_user() -> None:
        flask.g.user = "anna"

    lab.flask.before_request(load_user)
    with lab.flask.test_request_context("/"):
        flask.g.user = "anna"
        headers = capture_context()
    without = lab.task(with_request_context(visitor))
    with_hooks = lab.task(with_request_context(before_request=True)(visitor))
    with pytest.raises(AttributeError, match=r"^user$") as raised:
        without.apply(headers=headers).get()
    assert is_answered(raised.value)
    assert with_hooks.apply(headers=headers).get() == "anna"


def test_an_attribute_of_g_that_travels(lab: Lab) -> None:
    """A value that a session can hold does; another is refused in the view."""
    init_app(lab.flask)
    lab.flask.config["TASK_CONTEXT_G"] = ["user"]
    with lab.flask.test_request_context("/"):
        flask.g.user = "anna"
        headers = capture_context()
        flask.g.user = User("anna")
        with pytest.raises(CaptureError, match=r"g\.user cannot travel") as raised:
            capture_context()
    assert is_answered(raised.value)
    task = lab.task(with_request_context(visitor))
    assert task.apply(headers=headers).get() == "anna"


def test_a_detached_object(lab: Lab) -> None:
    """After its app context an object is detached; under the decorator it is not."""
    lab.flask.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    database = SQLAlchemy(lab.flask)

    class Author(database.Model):  # type: ignore[name-defined, misc]
        id = database.mapped_column(database.Integer, primary_key=True)

    class Book(database.Model):  # type: ignore[name-defined, misc]
        id = database.mapped_column(database.Integer, primary_key=True)
        author_id = database.mapped_column(database.ForeignKey(Author.id))
        author = database.relationship(Author)

    with lab.flask.app_context():
        database.create_all()
        database.session.add(Book(id=1, author=Author(id=2)))
        database.session.commit()

    def after_its_context() -> int:
        with lab.flask.app_context():
            book = database.session.get(Book, 1)
        return t.cast("int", book.author.id)

    def in_its_context() -> int:
        return t.cast("int", database.session.get(Book, 1).author.id)

    with pytest.raises(DetachedInstanceError, match="is not bound") as raised:
        lab.run(after_its_context)
    assert is_answered(raised.value)
    assert lab.restored(in_its_context) == 2
    with lab.flask.app_context():
        database.engine.dispose()


def test_no_secret_key(lab: Lab) -> None:
    """Flask's session raises, in a task too."""
    lab.flask.config["SECRET_KEY"] = None

    def change() -> None:
        with lab.flask.test_request_context():
            flask.session["a"] = 1

    with pytest.raises(RuntimeError, match="no secret key was set") as raised:
        lab.run(change)
    assert is_answered(raised.value)


def test_the_default_locale(lab: Lab) -> None:
    """Each of the three answers without a request, and the visitor's with it."""
    assert "# Flask-Babel gives the default locale in a task" in FAQ
    flask_babel.Babel(
        lab.flask,
        locale_selector=lambda: flask.request.accept_languages.best_match(["en", "de"]),
    )

    def locale() -> str:
        return str(flask_babel.get_locale())

    def in_app_context() -> str:
        with lab.flask.app_context():
            return locale()

    def in_empty_request() -> str:
        with lab.flask.test_request_context():
            return locale()

    assert lab.run(locale) == "None"
    with pytest.raises(RuntimeError, match=NO_REQUEST):
        lab.run(in_app_context)
    assert lab.run(in_empty_request) == "en"
    assert lab.restored(locale) == "de"


def test_a_task_that_the_worker_does_not_know(tmp_path: Path) -> None:
    """The worker prints it, with all headers."""
    settings = celery_settings("redis", tmp_path)
    worker = Worker(settings, tmp_path / "worker.log")
    celery = Celery("web", set_as_current=False)
    celery.conf.update(settings)
    try:
        celery.send_task("nobody.knows", headers={"mine": "is shown"})
        worker.wait_for("is shown")
    finally:
        worker.stop()
        drop_queue(celery)
    (line,) = re.findall(r"Received unregistered task .*", worker.log.read_text())
    assert is_answered(line)


def test_a_header_that_is_too_large_for_rabbitmq(tmp_path: Path, lab: Lab) -> None:
    """The innocent publish after it raises; the default limit refuses it in the view."""
    celery = Celery("rabbit", set_as_current=False)
    celery.conf.update(celery_settings("rabbitmq", tmp_path))
    lab.celery.close()
    lab.celery = celery

    def add() -> None:
        pass

    task = lab.task(add)
    large = {"HTTP_LARGE": "x" * 140_000}
    with lab.flask.test_request_context(environ_base=large):
        with pytest.raises(CaptureError, match="Nothing was sent"):
            delay_with_context(task)
        lab.flask.config["TASK_CONTEXT_MAX_SIZE"] = 1_000_000
        delay_with_context(task)
    printed = ""
    deadline = time.monotonic() + 60
    while not printed and time.monotonic() < deadline:
        with contextlib.suppress(ConnectionError):
            try:
                task.delay()
            except amqp.exceptions.FrameError as error:
                printed = f"amqp.exceptions.FrameError: {error}"
        time.sleep(0.1)
    assert "frame_too_large" in printed
    assert is_answered(printed)
    drop_queue(celery)
