"""Read what the demo's mail server has received."""

from __future__ import annotations

from email import message_from_bytes
from email import policy
from email.message import EmailMessage
from pathlib import Path


def read_mails(folder: Path) -> list[EmailMessage]:
    """Return the mails of a Maildir, newest first."""
    files = sorted(
        Path(folder, "new").iterdir(),
        key=lambda file: file.stat().st_mtime,
        reverse=True,
    )
    return [message_from_bytes(f.read_bytes(), policy=policy.default) for f in files]
