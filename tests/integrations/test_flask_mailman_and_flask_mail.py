"""Mails of Flask-Mailman and Flask-Mail, written and sent in the task."""

from __future__ import annotations

import email
import email.policy
import socket
import types
import typing as t

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from tests.integrations.apps import flask_mail
from tests.integrations.apps import flask_mailman
from tests.integrations.conftest import Open


class Mailbox:
    """Takes what the SMTP server is given."""

    def __init__(self) -> None:
        self.mails: list[dict[str, str]] = []

    async def handle_DATA(self, server: t.Any, session: t.Any, mail: Envelope) -> str:  # noqa: N802
        content = t.cast("bytes", mail.content)
        message = email.message_from_bytes(content, policy=email.policy.default)
        self.mails.append(
            {
                "to": ", ".join(mail.rcpt_tos),
                "subject": message["Subject"],
                "text": message.get_content().strip(),
            }
        )
        return "250 OK"


@pytest.fixture
def mailbox() -> t.Iterator[tuple[Mailbox, int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mailbox = Mailbox()
    server = Controller(mailbox, hostname="127.0.0.1", port=port)
    server.start()
    yield mailbox, port
    server.stop()


@pytest.mark.parametrize("module", [flask_mailman, flask_mail])
def test_each_visitor_gets_a_mail_with_links_on_their_host(
    open_site: Open, mailbox: tuple[Mailbox, int], module: types.ModuleType
) -> None:
    """The link, the language and the form's value are those of the visitor, one after
    the other."""
    box, port = mailbox
    site = open_site(module, MAIL_PORT=port)
    for name, language, sender in (("anna", "de", "Bärbel"), ("ben", "en", "Zoe")):
        site.post(
            f"/invite/{name}",
            data={"from": sender},
            headers={"Host": f"{name}.example", "Accept-Language": language},
        )
    assert box.mails == [
        {
            "to": "anna@shop.example",
            "subject": "Ihre Einladung für morgen",
            "text": "http://anna.example/join/anna?from=Bärbel",
        },
        {
            "to": "ben@shop.example",
            "subject": "Your invitation",
            "text": "http://ben.example/join/ben?from=Zoe",
        },
    ]
