"""Hostile requests: the view behaves as it would without capture."""

from __future__ import annotations

import typing as t

import pytest
from flask import request

from flask_task_context import LeftOut
from flask_task_context import capture_context
from flask_task_context import restore_context
from stress import hostile_requests
from tests.conftest import Shop


@pytest.mark.parametrize("server", hostile_requests.SERVERS)
def test_the_same_bytes_to_two_servers(server: str) -> None:
    """One captures and one does not: the same answers, and the same for the view to
    see. (``python -m stress.hostile_requests`` tries all of them in every way.)"""
    tally = hostile_requests.every_case(server, every=13)
    assert tally.problems == []
    assert tally.reached > 50
    assert tally.errors > 5
    assert tally.refused > 0


def test_an_error_of_the_servers_own_in_a_body() -> None:
    """gunicorn has errors of its own for what is no chunk and no trailer: the view gets
    them where it reads, and from a capture, which reads too."""
    names = ["chunks with trailers", "a chunk's size that is none"]
    tally = hostile_requests.every_case("gunicorn", names=names)
    assert tally.problems == []
    assert tally.reached == 2 * len(hostile_requests.targets())
    assert 0 < tally.broken <= tally.errors


def test_what_gunicorn_does_after_the_answer() -> None:
    """The capture has read of the body where nobody else would have. After the view's
    answer gunicorn then keeps a connection with long chunks open, as the README says.
    What is behind broken chunks is never served."""
    names = [name for name in hostile_requests.cases() if name.startswith("kept open")]
    tally = hostile_requests.every_case("gunicorn", names=names)
    assert tally.problems == []
    # Sent before and after, in the ways that leave the body unread.
    unread = ("nothing", "session", "url")
    assert tally.afterwards >= 2 * len(unread)
    assert tally.broken >= 2 * len(unread)


def test_a_difference_is_seen() -> None:
    """The comparison finds another answer, a second request that only one server has
    served, and an error that no README names."""
    case = hostile_requests.post(b"x")
    record = {"way": "data", "seen": 1, "refused": None, "broken": None}

    def problems(*answers: hostile_requests.Answer) -> list[str]:
        return hostile_requests.problems_of(list(answers), case)

    one = hostile_requests.Answer(b"HTTP/1.1 200 ", [record])
    assert problems(one, one) == []
    other = hostile_requests.Answer(b"500", [{**record, "error": "TypeError"}])
    assert len(problems(one, other)) == 2
    refused = one._replace(records=[{**record, "refused": "no reason"}])
    (problem,) = problems(one, refused)
    assert problem == "an error that is not documented: no reason"
    smuggled = hostile_requests.Answer(one.response * 2, [record, record])
    assert len(problems(one, smuggled)) == 2
    closed = one._replace(response=one.response + b"HTTP/1.1 400 ")
    assert problems(closed, one) == []
    assert len(problems(closed, smuggled)) == 2
    twice = closed._replace(response=closed.response + b"HTTP/1.1 400 ")
    assert len(problems(twice, one)) == 1
    unanswered = one._replace(records=[record, record])
    assert len(problems(closed, unanswered)) == 1


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("more", ["", '; filename="f"'])
@pytest.mark.parametrize("length", [1, 90_000])
def test_a_part_of_a_form_without_a_name(
    plain_shop: Shop, read: bool, more: str, length: int
) -> None:
    """It is no reason to fail for the view, and travels as a field like others, or is
    left out as these are."""
    disposition = f"--b\r\nContent-Disposition: form-data{more}\r\n\r\n"
    after = (
        '\r\n--b\r\nContent-Disposition: form-data; name="to"\r\n\r\nanna\r\n--b--\r\n'
    )
    body = disposition + "x" * length + after

    def view() -> t.Any:
        if read:
            assert request.form["to"] == "anna"
        return capture_context()

    kind = "multipart/form-data; boundary=b"
    headers = plain_shop.visit(view, data=body.encode(), content_type=kind)
    with restore_context(headers, plain_shop.flask):
        if length == 1 or (more and read):
            assert request.form["to"] == "anna"
            # Parsed again, it has none; of what was parsed, an empty one.
            nameless = "" if read else None
            assert {*request.form, *request.files} == {"to", nameless}
        else:
            with pytest.raises(LeftOut, match="TASK_CONTEXT_MAX_SIZE"):
                _ = request.form
