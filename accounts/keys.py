"""API keys: `sk_<prefix>_<secret>`. The text is shown once; looked up by prefix and SHA-256, in one indexed query.

A plain digest is enough for 32 random bytes. Who holds the key acts as the member who made it, within its scopes and within
what that person may do on the brand at that moment: standing is proved anew with every call, and whenever a scope opens.
"""

import hashlib
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from django.db import IntegrityError, connections
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import limits
from accounts.limits import Limit
from accounts.models import ApiKey, Brand, User
from lib import clock
from lib.db import Principal, current_alias, pipeline
from lib.errors import Conflict, Forbidden, Invalid, NotAuthenticated, NotFound
from lib.figures import grouped

READ, WRITE = "conversations:read", "conversations:write"
OWN, MANAGE = "keys:own", "keys:manage"
SCOPES = {  # everybody may give them
    "chat": gettext_lazy(
        "ask models, with your plan and quota; read, continue and delete what was asked with this key"
    ),
    READ: gettext_lazy("read and continue all your conversations"),
    WRITE: gettext_lazy("change and delete them"),
    "messages:record": gettext_lazy("record messages of models you ask yourself, with their tokens"),
    "notifications:read": gettext_lazy("read what you are told, and mark it as read"),
    OWN: gettext_lazy("list and revoke your API keys; make, renew and change such as may do no more than this one"),
}
BRAND_SCOPES = {  # the brand's admins may, and they count for as long as the key's person is one
    "brand:read": gettext_lazy("read the numbers of the whole brand"),
    "webhooks:manage": gettext_lazy("set up webhooks of the brand, and see what was delivered"),
    "activity:read": gettext_lazy("read the activity log of the brand"),
    MANAGE: gettext_lazy(
        "list and revoke all API keys of the brand; make, renew and change its own that may do no more than this one"
    ),
}
ADMINS = ("admin", "owner")
LOOK_UP = "select * from lookup.api_key_holder(%(prefix)s, %(digest)s)"
STANDING = "select lookup.standing(%(brand)s::uuid, %(user)s::uuid) as standing"
SHAPE = re.compile(r"sk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
MOST_KEYS = 100  # in force, of one person on one brand
MOST_PER_MINUTE, MOST_PER_DAY = 10_000, 10_000_000
OVERLAPS = {"now": timedelta(), "hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
SHORT = timedelta(days=1)
MOST_KNOWN = 10_000
_brands: dict[str, UUID] = {}  # by the digest of a key that was in force here once


class NotYours(Forbidden):
    """A key may do no more than its person. Source: I-10."""

    code = "scope_beyond_creator"


class MadeAlready(Conflict):
    says = gettext_lazy(
        "This key was made already, and its text was shown then. Make another one, and revoke that one."
    )
    code = "key_made_already"


class Held(NamedTuple):
    """Who holds a key that is in force, and how much it may be used."""

    principal: Principal
    limits: list[Limit]


def scopes_of(standing: str) -> dict[str, Any]:
    """The scopes that a person of this standing may give a key, in words."""
    return {**SCOPES, **BRAND_SCOPES} if standing in ADMINS else dict(SCOPES)


def create(
    brand: Brand,
    user: User,
    *,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    is_brands: bool = False,
    models: Collection[str] = (),
    per_minute: int = 60,
    per_day: int = 10_000,
    family_id: UUID | None = None,
    key_id: UUID | None = None,
) -> tuple[ApiKey, str]:
    """Make a key and its text, which is never to be had again. Must run where the brand's keys may be written.

    is_brands  the brand's own: for admins; its calls are paid by the brand's pool, not by that person's plan
    models     the only models it may ask, by api_identifier; none = all that are offered
    family_id  the keys whose calls count in one limit with its own
    key_id     the row's id, where a repeat of the same request must not make a second key
    Raises     NotYours for a scope, or a key, that this person may not give; MadeAlready; Invalid
    """
    return _make(
        brand,
        user,
        name=name,
        scopes=_granted(brand, user.pk, scopes, is_brands=is_brands),
        expires_at=expires_at,
        is_short_lived=expires_at is not None and expires_at <= clock.now() + SHORT,
        is_brands=is_brands,
        allowed_models=sorted(set(models)),
        rate_limit_per_minute=_within("calls a minute", per_minute, MOST_PER_MINUTE),
        rate_limit_per_day=_within("calls a day", per_day, MOST_PER_DAY),
        family_id=family_id,
        pk=key_id or uuid4(),
    )


def rotate(key: ApiKey, user: User, *, overlap: timedelta, key_id: UUID | None = None) -> tuple[ApiKey, str]:
    """Make the key that takes this one's place, with its name, rights and limits; the old one works for `overlap` yet.

    Both are counted, in one limit. Where the key's maker may do less by now, so may the new one.
    Raises  NotFound for a key that is not in force, NotYours, MadeAlready
    """
    if not is_in_force(key):
        raise NotFound(_("This key does not work any more, so there is nothing to renew. Make a new one."))
    may = scopes_of(_standing(key.brand_id, user.pk))
    scopes = [scope for scope in key.scopes if scope in may]
    made = _make(
        key.brand,
        user,
        name=key.name,
        scopes=_granted(key.brand, user.pk, scopes, is_brands=key.is_brands),
        expires_at=key.expires_at and clock.now() + (key.expires_at - key.created_at),
        is_short_lived=key.is_short_lived,
        is_brands=key.is_brands,
        allowed_models=key.allowed_models,
        rate_limit_per_minute=key.rate_limit_per_minute,
        rate_limit_per_day=key.rate_limit_per_day,
        family_id=key.family_id or key.pk,
        pk=key_id or uuid4(),
    )
    ends_at = clock.now() + overlap
    if key.expires_at is None or ends_at < key.expires_at:
        ApiKey.objects.filter(pk=key.pk).update(expires_at=ends_at)
    return made


def change(key: ApiKey, user: User, wanted: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Change what a key may do, how often and how long; its text stays. Counts with its next call.

    wanted   by column: name, scopes, allowed_models, rate_limit_per_minute, rate_limit_per_day, expires_at
    Returns  what is another than it was, each with its value before and after
    Raises   NotFound for a key that is not in force; NotYours, Invalid
    """
    if not is_in_force(key):
        raise NotFound(_("This key does not work any more, so there is nothing to change. Make a new one."))
    fields = dict(wanted)
    if "name" in fields:
        fields["name"] = _named(fields["name"])
    if "scopes" in fields:
        fields["scopes"] = _granted(key.brand, user.pk, fields["scopes"], is_brands=key.is_brands)
    if "allowed_models" in fields:
        fields["allowed_models"] = sorted(set(fields["allowed_models"]))
    if "rate_limit_per_minute" in fields:
        _within("calls a minute", fields["rate_limit_per_minute"], MOST_PER_MINUTE)
    if "rate_limit_per_day" in fields:
        _within("calls a day", fields["rate_limit_per_day"], MOST_PER_DAY)
    changed = {name: [getattr(key, name), value] for name, value in fields.items() if getattr(key, name) != value}
    for name, (_before, value) in changed.items():
        setattr(key, name, value)
    if changed:
        key.save(update_fields=list(changed))
    return changed


def revoke(key: ApiKey) -> bool:
    """End a key for good, and within seconds what is being answered to it. False = it had been revoked before."""
    row = ApiKey.objects.filter(pk=key.pk, is_active=True)
    return bool(row.update(is_active=False, revoked_at=clock.now()))


def forget_short_lived() -> int:
    """Delete keys that were made for a day at most, a day after their end; in the service scope. Returns how many.

    What tries something makes many of them, and nobody looks for one later: /api/docs/ gives one for an hour.
    """
    return ApiKey.objects.filter(is_short_lived=True, expires_at__lt=clock.now() - SHORT).delete()[0]


def is_in_force(key: ApiKey) -> bool:
    return key.is_active and (key.expires_at is None or key.expires_at > clock.now())


def _named(name: str) -> str:
    if not name.strip():
        raise Invalid(_("Give the key a name: it says later what may be revoked."), param="name")
    return name.strip()


def _make(brand: Brand, user: User, *, name: str, **fields: Any) -> tuple[ApiKey, str]:
    name = _named(name)
    if sum(is_in_force(key) for key in ApiKey.objects.filter(brand=brand, user=user, is_active=True)) >= MOST_KEYS:
        raise Invalid(
            _("You have %(most)s keys that work, and nobody needs more. Revoke some first.") % {"most": MOST_KEYS}
        )
    prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    text = f"sk_{prefix}_{secret}"
    key = ApiKey(brand=brand, user=user, name=name[:80], key_prefix=prefix, key_hash=digest(text), **fields)
    if ApiKey.objects.filter(pk=key.pk).exists():
        raise MadeAlready()
    try:
        key.save(force_insert=True)
    except IntegrityError as error:  # the same request at the same moment
        raise MadeAlready() from error
    return key, text


def _granted(brand: Brand, user_id: UUID, scopes: Iterable[str], *, is_brands: bool) -> list[str]:
    standing, wanted = _standing(brand.pk, user_id), sorted(set(scopes))
    known = {**SCOPES, **BRAND_SCOPES}
    if unknown := [scope for scope in wanted if scope not in known]:
        raise Invalid(f"Unknown scopes: {', '.join(unknown)}. There are: {', '.join(known)}.", param="scopes")
    if is_brands and standing not in ADMINS:
        raise NotYours(_("Keys of the brand are made by its admins. Make one of your own."))
    if beyond := [scope for scope in wanted if scope not in scopes_of(standing)]:
        raise NotYours(
            _("A key may do no more than its person, and you may not give this: %(scopes)s.")
            % {"scopes": ", ".join(beyond)}
        )
    return wanted


def _standing(brand_id: UUID, user_id: UUID) -> str:
    ((row,),) = pipeline(connections[current_alias()], [(STANDING, {"brand": brand_id, "user": user_id})])
    return row.standing or ""


def _within(what: str, given: int, most: int) -> int:
    if not 1 <= given <= most:
        raise Invalid(
            _("A limit of %(what)s is a whole number from 1 to %(most)s.") % {"what": what, "most": grouped(most)}
        )
    return given


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def authenticate(authorization: str, x_api_key: str = "") -> Held:
    """Who holds the key of `Authorization: Bearer sk_…`, or the same as `X-Api-Key`, which Anthropic's clients send.

    Whatever is wrong, the answer is the same 401; two headers that differ are wrong too (I-09).
    """
    text = sent(authorization, x_api_key)
    if shape := SHAPE.fullmatch(text):
        names = {"prefix": shape[1], "digest": digest(text)}
        ((*found,),) = pipeline(connections[current_alias()], [(LOOK_UP, names)])
        if found:
            key = found[0]
            if len(_brands) > MOST_KNOWN:
                _brands.clear()
            _brands[names["digest"]] = key.brand_id
            return Held(_principal(key), _limits(key))
    raise NotAuthenticated(
        "This API key is not valid. Send a key that is in force, as `Authorization: Bearer sk_…` or as `X-Api-Key: sk_…`."
    )


def _principal(key: Any) -> Principal:
    return Principal(
        "app_user",
        key.brand_id,
        key.user_id,
        key_id=key.id,
        scopes=frozenset(key.scopes) & scopes_of(key.standing).keys(),
        models=frozenset(key.models) or None,
        for_brand=key.is_brands,
        is_counted=True,
    )


def _limits(key: Any) -> list[Limit]:
    return limits.of_key(
        counted_as=key.counted_as,
        per_minute=key.per_minute,
        per_day=key.per_day,
        zone=key.zone,
        person=(key.brand_id, key.user_id),
        per_person=None if key.is_brands else key.person_per_minute,
    )


def sent(authorization: str, x_api_key: str = "") -> str:
    """The text that these headers hold, whatever it is; "" where they hold none, or two."""
    scheme, _space, text = authorization.partition(" ") if authorization else ("bearer", "", x_api_key)
    text = text.strip()
    is_one = scheme.lower() == "bearer" and x_api_key.strip() in ("", text) and len(text) < 100
    return text if is_one else ""


def has_shape(header: str) -> bool:
    """Whether this could be a key, or hold one. Nobody is asked."""
    return bool(SHAPE.search(header[:120]))


def brand_known(header: str) -> UUID | None:
    """The brand of a key that was used in this process before; it may not be in force any more."""
    shape = SHAPE.search(header[:120])
    return _brands.get(digest(shape[0])) if shape else None
