"""E-mails: their texts, the ways to send them, and the loop that sends what is due in the outbox."""

from server.mail.mailer import Mailer

__all__ = ["Mailer"]
