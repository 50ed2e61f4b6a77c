"""docs/how-to/dash.md, run as a reader would run it. Dash wants an older Celery than the other
tests, so that the processes have an environment of their own: ``make test`` makes it.
"""

from __future__ import annotations

import json
import os
import re
import time
import typing as t
import uuid
from pathlib import Path

import pytest
import requests

from tests.conftest import ROOT
from tests.conftest import missing
from tests.test_documentation import Folder
from tests.test_documentation import blocks_of
from tests.test_documentation import folder  # noqa: F401 - a fixture

PROGRAMS = Path(os.environ.get("TEST_VENV", ROOT / ".venv")) / "dash" / "bin"
PAGE = (ROOT / "docs" / "how-to" / "dash.md").read_text()
[(_, _, DASHBOARD), (_, _, LOOP)] = blocks_of(PAGE)
DECORATOR = "@with_request_context\n"

MORE = """
import os
import time
from celery import current_task
from dash import ctx, set_props
from flask_login import LoginManager, UserMixin, current_user, login_user


class User(UserMixin):
    def __init__(self, id):
        self.id = id


LoginManager(server).user_loader(User)
dash_app.layout += [html.P(id=id) for id in ("seen", "step", "aside", "stop")]


@server.get("/user/<name>")
def log_in(name):
    login_user(User(name))
    return ""


@callback(
    Output("seen", "children"),
    Input("write", "n_clicks"),
    background=True,
    progress=Output("step", "children"),
    cancel=Input("stop", "n_clicks"),
)
@with_request_context
def look(set_progress, clicks):
    set_props("aside", {"children": "set"})
    set_progress("half")
    if clicks < 0:
        time.sleep(60)
    return f"{ctx.triggered_id} {current_user.id} {'session' in ctx.cookies}"


@server.after_request
def after_request(response):
    if current_task:
        print("after-request begins", flush=True)
        time.sleep(3)
        print("after-request ends", flush=True)
    return response
"""


class Visitor:
    """A browser with the page open. It sends what Dash's own script sends."""

    def __init__(self, folder: Folder) -> None:  # noqa: F811
        self.url = f"http://127.0.0.1:{folder.port}"
        self.session = requests.Session()
        self.session.headers["Host"] = "localhost:5000"
        # Dash keeps results by a callback's arguments: in Redis each test has its own.
        self.clicks = uuid.uuid4().int % 2**31

    def open(self, path: str) -> None:
        self.session.get(self.url + path, allow_redirects=False, timeout=30)
        page = self.session.get(f"{self.url}/", timeout=30).text
        (config,) = re.findall(r'id="_dash-config"[^>]*>(.*?)</script>', page)
        self.end_id = json.loads(config)["end_id"]

    def send(
        self, output: str, pressed: str, clicks: int, **query: str
    ) -> requests.Response:
        name, _, property_ = output.partition(".")
        changed = f"{pressed}.n_clicks"
        body = {
            "output": output,
            "outputs": {"id": name, "property": property_},
            "inputs": [{"id": pressed, "property": "n_clicks", "value": clicks}],
            "changedPropIds": [changed],
            "parsedChangedPropsIds": [changed],
            "state": [],
        }
        return self.session.post(
            f"{self.url}/_dash-update-component",
            params={"endId": self.end_id, **query},
            json=body,
            timeout=30,
        )

    def press(self, output: str, sign: int = 1) -> dict[str, str]:
        started = self.send(output, "write", sign * self.clicks).json()
        return {key: started[key] for key in ("cacheKey", "job")}

    def wait(
        self, output: str, job: dict[str, str], part: str = "response"
    ) -> dict[str, t.Any]:
        """All that has come once this part has, or an answer that is no JSON."""
        come: dict[str, t.Any] = {}
        deadline = time.monotonic() + 30
        while part not in come:
            assert time.monotonic() < deadline, come
            answer = self.send(output, "write", self.clicks, **job)
            if answer.status_code != 200:
                return {"status": answer.status_code}
            come.update(answer.json())
            time.sleep(0.1)
        return come

    def answer(self, output: str) -> dict[str, t.Any]:
        """Of a callback that uses ``set_props``: Dash 4.4's ``get_updated_props`` deletes
        the result where that has come since the same poll looked for it."""
        for _ in range(5):
            come = self.wait(output, self.press(output))
            if come["response"]:
                break
        return come


class Dashboard:
    def __init__(self, folder: Folder) -> None:  # noqa: F811
        self.folder = folder
        path = f"{PROGRAMS}{os.pathsep}{folder.environ['PATH']}"
        folder.environ |= {"PATH": path, "KEY": "key"}
        self.visitor = Visitor(folder)

    def start(self, way: str, more: str, worker_key: str = "key") -> None:
        """The page's commands, with its first way or its second."""
        redis = '"redis://localhost"'
        assert DASHBOARD.count(redis) == 2
        source = DASHBOARD.replace(redis, repr(self.folder.redis)) + more
        if way == "loop":
            source = source.replace(DECORATOR, "") + LOOP
        self.folder.write("dashboard.py", f"{source}\n\n{self.folder.settings()}")
        worker, server = re.findall(r"^\$ (.+) &$", PAGE, re.M)
        self.folder.environ["KEY"] = worker_key
        self.folder.start(f"{worker} --concurrency=2 -l INFO", " ready.")
        self.folder.environ["KEY"] = "key"
        self.folder.start(server, "Running on")


@pytest.fixture
def dashboard(folder: Folder) -> Dashboard:  # noqa: F811
    if not (PROGRAMS / "celery").exists():
        missing(f"no environment for Dash at {PROGRAMS.parent}: 'make test' makes it")
    return Dashboard(folder)


@pytest.mark.parametrize("way", ["decorator", "loop"])
def test_the_page(dashboard: Dashboard, way: str) -> None:
    """It says what docs/how-to/dash.md says, and all that Dash gives a callback still works;
    after-request functions are done before Dash ends the task, except by the loop."""
    dashboard.start(way, MORE)
    log = dashboard.folder.log("celery")
    visitor = dashboard.visitor
    visitor.open("/login/anna")
    answer = visitor.wait("report.children", visitor.press("report.children"))
    text = answer["response"]["report"]["children"]
    assert f"in its paragraph: `{text}`\n" in PAGE
    if way == "loop":
        dashboard.folder.wait_for("Terminating", "celery")
        assert "after-request ends" not in log.read_text()
    else:
        dashboard.folder.wait_for("succeeded in", "celery")
        assert "after-request ends" in log.read_text()

    visitor.open("/user/anna")
    answer = visitor.answer("seen.children")
    assert answer["response"] == {"seen": {"children": "write anna True"}}
    assert answer["sideUpdate"] == {"aside": {"children": "set"}}
    assert answer["progress"] == {"step.children": "half"}

    job = visitor.press("seen.children", sign=-1)
    visitor.wait("seen.children", job, "progress")
    visitor.send("stop.id", "stop", 1, cancelJob=job["job"])
    assert visitor.wait("seen.children", job)["response"] == {}
    dashboard.folder.wait_for(f"Terminating {job['job'].partition('~')[0]}", "celery")


@pytest.mark.parametrize(("way", "status"), [("decorator", 500), ("loop", 204)])
def test_a_context_that_is_refused(dashboard: Dashboard, way: str, status: int) -> None:
    """The web server says why; by the loop, nobody does but the worker."""
    more = 'import os\n\nserver.config["SECRET_KEY"] = os.environ["KEY"]\n'
    dashboard.start(way, more, worker_key="another key")
    visitor = dashboard.visitor
    visitor.open("/login/anna")
    answer = visitor.wait("report.children", visitor.press("report.children"))
    assert answer == {"status": status}
    why = "BadContext: The context is signed with a SECRET_KEY that the app"
    said = why in dashboard.folder.log("flask").read_text()
    assert said is (way == "decorator")
    assert (why in dashboard.folder.log("celery").read_text()) is not said
