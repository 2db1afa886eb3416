"""Mail as it arrives. In a rolled-back test nothing commits, so the postman is sent round by hand."""

from django.core import mail
from django.core.mail import EmailMessage

from events import postman


def arrived() -> list[EmailMessage]:
    """Everything that was mailed so far, the newest last."""
    while postman.deliver_waiting():
        pass
    return outbox()


def outbox() -> list[EmailMessage]:
    """What the mail server has, without sending anybody."""
    return mail.outbox
