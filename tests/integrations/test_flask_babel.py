"""Locale, timezone and translations of Flask-Babel."""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo

from tests.integrations.apps import flask_babel
from tests.integrations.conftest import Open
from tests.integrations.conftest import Site

GERMAN = ["Hallo, you!", "01.07.26, 14:00", "1.234,5", "Europe/Berlin"]
ENGLISH = ["Hello, you!", "7/1/26, 9:00\u202fPM", "1,234.5", "Asia/Tokyo"]


@pytest.fixture
def open_babel(open_site: Open, tmp_path: Path) -> t.Callable[..., Site]:
    catalog = Catalog(locale="de")
    catalog.add("Hello, %(name)s!", "Hallo, %(name)s!")
    folder = tmp_path / "translations" / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    with (folder / "messages.mo").open("wb") as file:
        write_mo(file, catalog)

    def opened(*options: str, **config: t.Any) -> Site:
        translations = str(tmp_path / "translations")
        config["BABEL_TRANSLATION_DIRECTORIES"] = translations
        return open_site(flask_babel, *options, **config)

    return opened


def visitor(site: Site, language: str, timezone: str) -> requests.Session:
    """A visitor with a language of their browser's and a timezone in the session."""
    session = requests.Session()
    session.headers["Accept-Language"] = language
    session.post(site.url + "/timezone", data={"timezone": timezone}).raise_for_status()
    return session


def visit(site: Site, session: requests.Session, path: str = "/") -> t.Any:
    return session.get(site.url + path, timeout=60).json()


def test_each_visitor_in_turn(open_babel: t.Callable[..., Site]) -> None:
    """Text, date, number and timezone are those of the view, for visitors of
    different locales one after the other."""
    site = open_babel()
    with (
        visitor(site, "de", "Europe/Berlin") as anna,
        visitor(site, "en", "Asia/Tokyo") as ben,
    ):
        for _ in range(2):
            assert visit(site, anna) == {"view": GERMAN, "task": GERMAN}
            assert visit(site, ben) == {"view": ENGLISH, "task": ENGLISH}


def test_visitors_at_the_same_time(open_babel: t.Callable[..., Site]) -> None:
    """In one worker process with threads, each task keeps its visitor's locale."""
    site = open_babel("--pool=threads", "--concurrency=2")
    with (
        visitor(site, "de", "Europe/Berlin") as anna,
        visitor(site, "en", "Asia/Tokyo") as ben,
        ThreadPoolExecutor() as executor,
    ):
        german = executor.submit(visit, site, anna, "/slow")
        english = executor.submit(visit, site, ben, "/slow")
        assert german.result()["task"] == [GERMAN, GERMAN]
        assert english.result()["task"] == [ENGLISH, ENGLISH]


def test_a_timezone_of_the_user_in_g(open_babel: t.Callable[..., Site]) -> None:
    """A selector that reads ``g.user`` finds it when ``TASK_CONTEXT_G`` names it."""
    site = open_babel(TASK_CONTEXT_G=["user"])
    site.post("/login/ben")
    seen = site.get("/timezone").json()
    assert (seen["view"], seen["task"]) == ("Asia/Tokyo", "Asia/Tokyo")


def test_a_timezone_of_the_user_that_a_hook_loads(
    open_babel: t.Callable[..., Site],
) -> None:
    """Or when ``before_request=True`` loads it anew; with neither, the task has the
    default timezone."""
    site = open_babel()
    site.post("/login/ben")
    assert site.get("/timezone").json() == {
        "view": "Asia/Tokyo",
        "task": "UTC",
        "task after hooks": "Asia/Tokyo",
    }


def test_a_forced_locale(open_babel: t.Callable[..., Site]) -> None:
    """``force_locale`` around the call is of the view alone: the task's locale is
    what the selector says."""
    site = open_babel()
    with visitor(site, "en", "Asia/Tokyo") as ben:
        seen = visit(site, ben, "/forced")
    assert [seen["view"][0], seen["task"][0]] == ["Hallo, you!", "Hello, you!"]


def test_a_message_without_a_context(open_babel: t.Callable[..., Site]) -> None:
    """A selector that asks for a request first gives the defaults where none is."""
    site = open_babel()
    with visitor(site, "de", "Europe/Berlin") as anna:
        seen = visit(site, anna, "/without-context")
    noon = "7/1/26, 12:00\u202fPM"
    assert seen == {"task": ["Hello, you!", noon, "1,234.5", "UTC"]}
