"""How people get in and out, as the audit log has it. allauth and Django tell of it by signals, and in no other way.

Each line stands in the log of the brand whose pages were open, where a wrong password and an unknown address look the same
to whoever measures: both write one line.
"""

from typing import Any

from allauth.account import signals as account
from allauth.mfa import signals as mfa
from allauth.mfa.models import Authenticator
from allauth.socialaccount import signals as elsewhere
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import Signal, receiver

from accounts.models import User
from events import activity
from events.models import Activity
from lib.db import SERVICE, scope

# What allauth says in passing (request, user), and what we call it.
SAYINGS: dict[Signal, str] = {
    user_logged_in: "session.started",
    user_logged_out: "session.ended",
    account.password_set: "password.changed",
    account.password_changed: "password.changed",
    account.password_reset: "password.reset",
    account.email_changed: "email.changed",
}


def _tell(request: Any, action: str, user: Any, **changes: Any) -> None:
    """One line, if this came through a page of ours: a command and a test's own log-in have no brand."""
    brand = getattr(request, "brand", None)
    if brand is None or user is None:
        return
    activity.record(brand.pk, action, actor_id=user.pk, resource=("user", user.pk), changes=changes)


@receiver(list(SAYINGS))
def told(signal: Signal, request: Any = None, user: Any = None, **_rest: Any) -> None:
    _tell(request, SAYINGS[signal], user)


@receiver([mfa.authenticator_added, mfa.authenticator_removed, mfa.authenticator_reset])
def second_factor(signal: Signal, request: Any, user: Any, authenticator: Authenticator, **_rest: Any) -> None:
    """Recovery codes come and go with the second step; only new ones are worth a line."""
    if authenticator.type == Authenticator.Type.RECOVERY_CODES:
        if signal is not mfa.authenticator_removed:
            _tell(request, "second_factor.renewed", user)
    else:
        did = "removed" if signal is mfa.authenticator_removed else "added"
        _tell(request, f"second_factor.{did}", user, type=authenticator.type)


@receiver(elsewhere.social_account_added)
def connected(request: Any, sociallogin: Any, **_rest: Any) -> None:
    _tell(request, "account_elsewhere.added", sociallogin.user, at=sociallogin.account.provider)


@receiver(elsewhere.social_account_removed)
def disconnected(request: Any, socialaccount: Any, **_rest: Any) -> None:
    _tell(request, "account_elsewhere.removed", socialaccount.user, at=socialaccount.provider)


@receiver([user_login_failed, mfa.authentication_failed])
def refused(request: Any = None, user: Any = None, credentials: Any = None, **_rest: Any) -> None:
    """What was typed is not kept: it may be a password in the wrong field."""
    brand = getattr(request, "brand", None)
    if brand is None:
        return
    given = str((credentials or {}).get("email") or (credentials or {}).get("username") or "")
    with scope(SERVICE):
        whose = user or User.objects.filter(email=given.lower(), memberships__brand=brand.pk).first()
        activity.record(
            brand.pk,
            "session.refused",
            actor_id=None,
            actor_kind=Activity.ActorKind.NOBODY,
            resource=("user", whose.pk if whose else None),
        )
