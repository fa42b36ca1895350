"""The e-mails' texts. Nothing in them comes from a user: one who requests an e-mail may not write it."""

from __future__ import annotations

import html
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never, get_args
from urllib.parse import urlencode
from uuid import UUID

from config.settings import Settings
from schemas._vocabulary import TokenPurpose

PURPOSES: tuple[TokenPurpose, ...] = get_args(TokenPurpose)
LIFETIMES: dict[TokenPurpose, timedelta] = {"verification": timedelta(hours=24), "reset": timedelta(hours=1)}


@dataclass(frozen=True, slots=True)
class Email:
    """An e-mail ready to be sent. The same e-mail sent again is the same in every byte."""

    id: UUID
    written_at: datetime
    sender: str
    recipient: str
    subject: str
    text: str
    html: str


def write_email(
    settings: Settings, email_id: UUID, written_at: datetime, recipient: str, purpose: TokenPurpose, token: str
) -> Email:
    """Write the e-mail that carries the link."""
    if purpose == "verification":
        link = f"{settings.api_url.rstrip('/')}/auth/verify-email?{urlencode({'token': token})}"
        subject = "Verify your e-mail address"
        lines = [
            "Welcome to TradeStream. To verify your e-mail address, open this link and press the button there:",
            link,
            "The link is good for 24 hours. If you did not register, ignore this e-mail, and press nothing.",
        ]
        if not settings.is_production:  # there, FRONTEND_URL has the page
            lines.append(
                f"Without that page: curl {settings.api_url.rstrip('/')}/auth/verify-email "
                f"-H 'Content-Type: application/json' -d '{{\"token\":\"{token}\"}}'"
            )
    elif purpose == "reset":
        link = f"{settings.frontend_url.rstrip('/')}/reset-password?{urlencode({'token': token})}"
        subject = "Reset your password"
        lines = [
            "Somebody, hopefully you, asked to reset the password of your TradeStream account. Open this link:",
            link,
            "The link is good once, for one hour. If it was not you, ignore this e-mail: nothing has changed.",
        ]
    elif purpose == "attempts":
        link = settings.frontend_url
        subject = "Wrong passwords for your account"
        lines = [
            "Somebody has tried several wrong passwords for your TradeStream account. None of them let anybody in.",
            "On devices where you have logged in before you get in as always; elsewhere it may take a minute.",
            "If it was you, and you have forgotten the password, ask for another one there:",
            link,
            "If it was not you, there is nothing to do, as long as you use this password nowhere else.",
        ]
    else:
        assert_never(purpose)
    return Email(
        id=email_id,
        written_at=written_at,
        sender=settings.mail_from,
        recipient=recipient,
        subject=subject,
        text="\n\n".join(lines) + "\n",
        html="".join(f"<p>{_with_link(line, link)}</p>" for line in lines),
    )


def _with_link(line: str, link: str) -> str:
    shown = html.escape(line)
    return f'<a href="{shown}">{shown}</a>' if line == link else shown
