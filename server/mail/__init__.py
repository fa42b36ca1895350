"""Letters: what they say, how they are sent, and the loop that sends what waits in the outbox."""

from server.mail.mailer import Mailer

__all__ = ["Mailer"]
