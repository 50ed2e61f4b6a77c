"""Two visitors ask for an invitation; a Celery worker writes the mails.

``python -m examples.demo`` prints the mails and checks them.
``python -m examples.demo --serve`` leaves a page to try by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from email.message import EmailMessage
from itertools import zip_longest
from typing import Any
from urllib.parse import urlencode
from urllib.parse import urlsplit

from .maildir import read_mails
from .stack import Failed
from .stack import Interrupted
from .stack import Signals
from .stack import Stack

FLASK_ERROR = "RuntimeError: Unable to build URLs outside an active request"


@dataclass
class Visitor:
    """Someone with a browser, and what their mail must look like."""

    name: str
    email: str
    url: str  # where the visitor sees the application
    language: str
    subject: str
    headers: dict[str, str] = field(default_factory=dict)


VISITORS = [
    Visitor(
        name="Amélie",
        email="luc@example.com",
        url="http://fete.example:8080",
        language="fr",
        subject="Amélie t'invite à la fête",
        headers={
            "Host": "fete.example:8080",
            "Accept-Language": "fr-CA,fr;q=0.9,en;q=0.5",
        },
    ),
    Visitor(
        name="Jörg",
        email="ute@example.com",
        url="https://www.fest.example/sommer",
        language="de",
        subject="Jörg lädt dich zum Fest ein",
        headers={
            "Host": "127.0.0.1",  # what the proxy calls the web server
            "Accept-Language": "de-AT,de;q=0.9",
            "X-Forwarded-For": "203.0.113.7",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "www.fest.example",
            "X-Forwarded-Prefix": "/sommer",
        },
    ),
]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.demo")
    parser.add_argument("--serve", action="store_true", help="leave it running")
    parser.add_argument("--port", type=int, default=8000, help="with --serve; 0: any")
    options = parser.parse_args()
    signals = Signals()
    print("Starting a mail server, a web server and a Celery worker ...", flush=True)
    try:
        with Stack(signals, options.port if options.serve else 0) as stack:
            return serve(stack) if options.serve else compare(stack)
    except Interrupted:
        print("\nEverything is ended.", flush=True)
        return 0 if options.serve else 128 + (signals.received or 0)
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1


def serve(stack: Stack) -> int:
    print(f"Open http://127.0.0.1:{stack.port}/ and invite someone.")
    print(f"Logs and mails are in {stack.folder} until Ctrl-C.", flush=True)
    while True:
        stack.pause()


def compare(stack: Stack) -> int:
    """Ask as every visitor, with and without the library; print and check."""
    asked = [
        (
            visitor,
            ask(stack, visitor, "/invite"),
            ask(stack, visitor, "/invite/without"),
        )
        for visitor in VISITORS
    ]
    problems = []
    for visitor, task, task_without in asked:
        outcome = wait_for_task(stack, task)
        error = wait_for_task(stack, task_without).get("error", "no error")
        received = read_mails(stack.mail_folder)
        mails = [mail for mail in received if mail["To"] == visitor.email]
        show(visitor, mails, outcome, error)
        problems += [f"{visitor.name}: {what}" for what in check(visitor, mails, error)]
    if problems:
        print("\nWRONG", *problems, sep="\n  ")
        return 1
    print("\nBoth mails have the visitor's link, host, scheme and language.")
    return 0


def ask(stack: Stack, visitor: Visitor, path: str) -> str:
    """Send the form as the visitor's browser would; return the task's id."""
    response, _ = stack.request(
        "POST",
        path,
        {**visitor.headers, "Content-Type": "application/x-www-form-urlencoded"},
        urlencode({"name": visitor.name, "email": visitor.email}),
    )
    return response.headers["Location"].rpartition("/")[2]


def wait_for_task(stack: Stack, task_id: str) -> dict[str, Any]:
    def finished() -> dict[str, Any] | None:
        _, content = stack.request("GET", f"/tasks/{task_id}.json", {})
        task: dict[str, Any] = json.loads(content)
        return task if task["state"] in ("SUCCESS", "FAILURE") else None

    return stack.wait_for_worker(finished)


def check(visitor: Visitor, mails: list[EmailMessage], error: str) -> Iterator[str]:
    """Yield what is wrong."""
    if not error.startswith(FLASK_ERROR):
        yield f"without the library, Flask's error was expected, not {error!r}"
    if len(mails) != 1:
        yield f"{len(mails)} mails arrived instead of one"
        return
    mail = mails[0]
    wanted = urlsplit(visitor.url)
    link = urlsplit("".join(re.findall(r"https?://\S+", mail.get_content())))
    yield from differ("scheme", link.scheme, wanted.scheme)
    yield from differ("host", link.netloc, wanted.netloc)
    yield from differ("path", re.sub(r"\w+$", "", link.path), f"{wanted.path}/join/")
    yield from differ("language", mail["Content-Language"], visitor.language)
    yield from differ("subject", mail["Subject"], visitor.subject)


def differ(what: str, found: str, wanted: str) -> Iterator[str]:
    if found != wanted:
        yield f"the {what} is {found!r} instead of {wanted!r}"


def show(
    visitor: Visitor, mails: list[EmailMessage], outcome: dict[str, Any], error: str
) -> None:
    """Print what the task did, with the library on the left, without on the right."""
    left = [outcome.get("error", "no mail")]
    for mail in mails:
        lines = [f"{name}: {mail[name]}" for name in ("To", "Subject")]
        left = [*lines, "", *mail.get_content().strip().splitlines()]
    print(f"\n{visitor.name} at {visitor.url}")
    print(f"  (Accept-Language: {visitor.headers['Accept-Language']})")
    width = min(shutil.get_terminal_size((100, 24)).columns, 110) - 6
    wide = width * 3 // 5
    rows = zip_longest(
        columns("with flask-task-context", left, wide),
        columns("without", [error], width - wide),
        fillvalue="",
    )
    for with_library, without in rows:
        print(f"  {with_library:{wide}} | {without}".rstrip())


def columns(title: str, lines: list[str], width: int) -> list[str]:
    wrapped = [part for line in lines for part in textwrap.wrap(line, width) or [""]]
    return [title, "-" * width, *wrapped]


if __name__ == "__main__":
    sys.exit(main())
