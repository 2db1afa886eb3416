"""Tokens of apps: a member who signed in without a browser (allauth headless), as one more credential (A-09).

Signing in gives a session of its own, and for calls of the API a JWT of five minutes, which names brand and person and lives
no longer than that session: signing it out, another password and suspension end it at once. Neither is any other kind of
token: the session's name is sealed, so that no cookie can be made of it, and a JWT opens no sign-in.
"""

from typing import Any, cast
from uuid import UUID

import jwt
from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.core import context
from allauth.headless.tokens.strategies.jwt import JWTTokenStrategy, internal
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core import signing
from django.http import HttpRequest

from accounts.models import User
from lib.db import Principal

ISSUER = "chatsite"
BRAND = "app_of"  # in the session: the brand whose app it is
SALT = "accounts.app_tokens.session"
CLAIMS = ["aud", "exp", "iat", "iss", "jti", "sid", "sub"]


class Strategy(JWTTokenStrategy):
    """allauth's, bound to the brand that was signed in to."""

    def create_session_token(self, request: HttpRequest) -> str:
        request.session[BRAND] = _brand(request)
        return _sealed(super().create_session_token(request))

    def get_session_token(self, request: HttpRequest) -> str | None:
        """Of the header X-Session-Token alone: the JWT is for the API, and changes nothing of how its person gets in."""
        given: str | None = request.headers.get("x-session-token")
        return given

    def lookup_session(self, session_token: str) -> SessionBase | None:
        try:
            key = internal.session_key_from_sid(signing.loads(session_token, salt=SALT))
        except signing.BadSignature:
            return None
        session: SessionBase | None = super().lookup_session(key) if key else None
        return session if session is not None and session.get(BRAND) == _brand(context.request) else None

    def get_claims(self, user: Any) -> dict[str, Any]:
        return {"iss": ISSUER, "aud": _brand(context.request)}

    def refresh_token(self, refresh_token: str) -> tuple[str, str] | None:
        found = internal.validate_refresh_token(refresh_token)
        if found is None or found[1].get(BRAND) != _brand(context.request):
            return None
        renewed: tuple[str, str] | None = super().refresh_token(refresh_token)
        return renewed


def is_one(authorization: str) -> bool:
    """Whether this header holds a JWT, of whomever. Nobody is asked."""
    return authorization[:9].lower() == "bearer ey" and authorization.count(".") == 2


def principal(authorization: str, brand_id: UUID) -> Principal | None:
    """Whose token this is, if it is in force on this brand. Reads session and user; the scope proves their standing."""
    try:
        claims = jwt.decode(
            authorization[7:],
            settings.HEADLESS_JWT_PRIVATE_KEY,
            algorithms=[settings.HEADLESS_JWT_ALGORITHM],
            audience=str(brand_id),
            issuer=ISSUER,
            options={"require": CLAIMS},
        )
    except jwt.PyJWTError:
        return None
    if claims.get("token_use") != "access" or not isinstance(claims["sid"], str):
        return None
    session = internal.get_token_session(claims)
    user = None if session is None else internal.validate_token_user(claims, session)
    return None if user is None else Principal("app_user", brand_id, cast(User, user).pk)


def session_of(authorization: str) -> str:
    """The key of the session that a token lives no longer than. It was found to be in force before."""
    claims = jwt.decode(authorization[7:], options={"verify_signature": False})
    return str(internal.session_key_from_sid(claims["sid"]) or "")


def proofs(authorization: str) -> list[dict[str, Any]]:
    """When and how who has this token signed in. It was found to be in force before. Reads the session."""
    session = internal.lookup_session(session_of(authorization))
    records = None if session is None else session.get(AUTHENTICATION_METHODS_SESSION_KEY)
    return records if isinstance(records, list) else []


def _sealed(session_key: str) -> str:
    return signing.dumps(internal.session_key_to_sid(session_key), salt=SALT)


def _brand(request: Any) -> str:
    return str(request.brand.pk)
