"""Standard Webhooks: what a delivery's headers say, and why a signature holds or does not."""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from lib.secret import Secret

PREFIX = "whsec_"
SECRET_BYTES = 32
TOLERANCE = timedelta(minutes=5)


def new_secret() -> Secret:
    return Secret(PREFIX + base64.b64encode(os.urandom(SECRET_BYTES)).decode())


def headers(message_id: str, *, at: datetime, body: bytes, secrets: Iterable[Secret]) -> dict[str, str]:
    """The three headers that prove a body to whoever has one of the secrets."""
    moment = str(int(at.timestamp()))
    signatures = (f"v1,{_signature(_key(secret.reveal()), message_id, moment, body)}" for secret in secrets)
    return {"webhook-id": message_id, "webhook-timestamp": moment, "webhook-signature": " ".join(signatures)}


def _key(secret: str) -> bytes:
    """Raises ValueError (binascii.Error is one) for what is no secret."""
    return base64.b64decode(secret.strip().removeprefix(PREFIX), validate=True)


def _signature(key: bytes, message_id: str, moment: str, body: bytes) -> str:
    signed = b".".join((message_id.encode(), moment.encode(), body))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


@dataclass(frozen=True, slots=True)
class Verdict:
    holds: bool
    why: str


def judge(body: bytes, given: Mapping[str, str], secret: str, *, now: datetime) -> Verdict:
    """Whether a delivery is genuine, and in words why not.

    given  headers by their names in small letters
    """
    message_id, moment, claimed = (
        given.get(f"webhook-{name}", "").strip() for name in ("id", "timestamp", "signature")
    )
    missing = [
        f"webhook-{name}"
        for name, value in (("id", message_id), ("timestamp", moment), ("signature", claimed))
        if not value
    ]
    if missing:
        return Verdict(False, _("These headers are missing: %(names)s.") % {"names": ", ".join(missing)})
    try:
        key = _key(secret)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < 24:
        return Verdict(
            False, _("This is no signing secret. It begins with whsec_ and is shown when a webhook is made.")
        )
    if not moment.isascii() or not moment.isdigit():
        return Verdict(False, _("webhook-timestamp is not a number of seconds since 1970."))
    signatures = [part.partition(",")[2] for part in claimed.split() if part.startswith("v1,")]
    if not signatures:
        return Verdict(False, _("webhook-signature holds no signature that begins with “v1,”."))
    ours = _signature(key, message_id, moment, body)
    if not any(hmac.compare_digest(ours.encode(), theirs.encode()) for theirs in signatures):
        return Verdict(
            False,
            _(
                "The signature does not fit: the secret is another one, or the body or a header was changed on the way. "
                "The body must be taken byte by byte as it came, before anything parses it."
            ),
        )
    if abs(now.timestamp() - int(moment)) > TOLERANCE.total_seconds():
        return Verdict(
            True,
            _(
                "The signature holds, but it is over five minutes old: a receiver should refuse what a stranger sends again."
            ),
        )
    return Verdict(True, _("The signature holds."))
