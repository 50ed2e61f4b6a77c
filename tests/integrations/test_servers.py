"""A view that sends from each WSGI server. (``tests/test_fidelity.py`` compares all
that can be seen of a request on each of them.)"""

from __future__ import annotations

import typing as t

import pytest

from tests.integrations.conftest import Open
from tests.servers import COMMANDS
from tests.servers import WITHOUT_CHUNKED_BODIES

FORM = {"a": ["1", "ü"], "b": [""]}
JSON = {"a": [1, None, "ü"]}


def chunks() -> t.Iterator[bytes]:
    yield b'{"a":'
    yield b" 1}"


@pytest.mark.parametrize("server", COMMANDS)
def test_the_task_sees_what_the_view_saw(
    open_apart: Open, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A form, JSON and a chunked body, one after the other, with a path in UTF-8 and a
    repeated query; no variable of the process."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://shop:secret@localhost/")
    site = open_apart("echo", server=server)

    def see(**sent: t.Any) -> t.Any:
        site.visitor.close()  # uWSGI closes its connections without saying so.
        headers = {"Host": "anna.example", "X-Tag": "a, b"}
        answer = site.post("/echo/Bär€?q=1&q=ü", headers=headers, **sent).json()
        assert answer["task"] == answer["view"]
        assert answer["view"]["url"] == "http://anna.example/echo/Bär€?q=1&q=ü"
        assert answer["view"]["name"] == "Bär€"
        assert answer["view"]["query"] == ["1", "ü"]
        assert answer["view"]["header"] == "a, b"
        assert answer["view"]["address"] == "127.0.0.1"
        assert "HTTP_X_TAG" in answer["variables"]
        assert "DATABASE_URL" not in answer["variables"]
        return answer["task"]

    assert see(data=FORM)["form"] == FORM
    assert see(json=JSON)["json"] == JSON
    if server not in WITHOUT_CHUNKED_BODIES:
        assert see(data=chunks())["data"] == '{"a": 1}'
