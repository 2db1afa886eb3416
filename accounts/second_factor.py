"""What a second step is proved with, sealed where it is stored: a copy of the database opens nobody's account (A-16)."""

import base64

from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings

from lib.sealed import Sealed, seal, unseal
from lib.secret import Secret

MARK = "sealed:"
BOUND_TO = b"mfa_authenticator.data"
HOLDS = ("secret", "seed")  # in the row's data


class Adapter(DefaultMFAAdapter):
    """Without ENCRYPTION_KEYS it is stored open: nobody is kept out for it, and check_deployment names what is missing."""

    def encrypt(self, text: str) -> str:
        if not settings.ENCRYPTION_KEYS:
            return text
        return MARK + base64.b64encode(seal(Secret(text), BOUND_TO).envelope).decode()

    def decrypt(self, encrypted_text: str) -> str:
        held = envelope(encrypted_text)
        return unseal(held, BOUND_TO).reveal() if held else encrypted_text


def envelope(stored: str) -> Sealed | None:
    """None for what was stored open."""
    return Sealed(base64.b64decode(stored.removeprefix(MARK))) if stored.startswith(MARK) else None
