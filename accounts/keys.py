"""API keys: `sk_<prefix>_<secret>`. The text is shown once; looked up by prefix and SHA-256, in one indexed query.

A plain digest is enough for 32 random bytes. Who holds the key acts as the member who made it, within its scopes, for
as long as that member may: standing is proved anew whenever a scope opens.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.db import connections

from accounts.models import ApiKey, Brand, User
from lib.db import Principal, current_alias, pipeline
from lib.errors import Invalid, NotAuthenticated

READ, WRITE = "conversations:read", "conversations:write"
SCOPES = {
    "chat": "ask models, with the member's plan and quota; read, continue and delete what was asked with this key",
    READ: "read and continue the member's conversations",
    WRITE: "change and delete them",
    "messages:record": "record messages with token counts of one's own",
}
LOOK_UP = """
select id, brand_id, user_id, scopes, lookup.standing(brand_id, user_id) as standing
from lookup.api_key(%(prefix)s, %(digest)s)
"""
SHAPE = re.compile(r"sk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
MOST_KNOWN = 10_000
_brands: dict[str, UUID] = {}  # by the digest of a key that was in force here once


def create(
    brand: Brand, user: User, *, name: str, scopes: Iterable[str], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Make a key and its text, which is never to be had again. Must run where the brand's keys may be written."""
    wanted = sorted(set(scopes))
    if unknown := [scope for scope in wanted if scope not in SCOPES]:
        raise Invalid(f"Unknown scopes: {', '.join(unknown)}. There are: {', '.join(SCOPES)}.")
    prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    text = f"sk_{prefix}_{secret}"
    key = ApiKey.objects.create(
        brand=brand,
        user=user,
        name=name,
        key_prefix=prefix,
        key_hash=digest(text),
        scopes=wanted,
        expires_at=expires_at,
    )
    return key, text


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def authenticate(authorization: str, x_api_key: str = "") -> Principal:
    """The principal of `Authorization: Bearer sk_…`, or of the same key as `X-Api-Key`, which Anthropic's clients send.

    Whatever is wrong, the answer is the same 401; two headers that differ are wrong too (I-09).
    """
    scheme, _, text = authorization.partition(" ") if authorization else ("bearer", "", x_api_key)
    text = text.strip()
    shape = SHAPE.fullmatch(text) if len(text) < 100 else None
    if scheme.lower() == "bearer" and shape and x_api_key.strip() in ("", text):
        names = {"prefix": shape[1], "digest": digest(text)}
        ((*found,),) = pipeline(connections[current_alias()], [(LOOK_UP, names)])
        if found and found[0].standing:
            key = found[0]
            if len(_brands) > MOST_KNOWN:
                _brands.clear()
            _brands[names["digest"]] = key.brand_id
            return Principal("app_user", key.brand_id, key.user_id, key_id=key.id, scopes=frozenset(key.scopes))
    raise NotAuthenticated(
        "This API key is not valid. Send a key that is in force, as `Authorization: Bearer sk_…` or as `X-Api-Key: sk_…`."
    )


def has_shape(header: str) -> bool:
    """Whether this could be a key, or hold one. Nobody is asked."""
    return bool(SHAPE.search(header[:120]))


def brand_known(header: str) -> UUID | None:
    """The brand of a key that was used in this process before; it may not be in force any more."""
    shape = SHAPE.search(header[:120])
    return _brands.get(digest(shape[0])) if shape else None
