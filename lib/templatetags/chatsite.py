"""Small marks that every page uses."""

from functools import cache
from typing import Any

from django import template
from django.contrib.messages import get_messages
from django.contrib.messages.storage.base import Message
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from lib import sessions
from lib.money import dollars

register = template.Library()
register.filter(dollars)


@register.simple_tag
def icon(name: str, size: str = "") -> SafeString:
    """A drawing of static/icons.svg; `size` is "" or "s"."""
    return _drawn(name, size)


@cache  # a page has a hundred, of some dozen kinds; where icons.svg lies changes with a release
def _drawn(name: str, size: str) -> SafeString:
    return format_html(
        '<svg class="icon{}" aria-hidden="true"><use href="{}#{}"/></svg>',
        f" icon--{size}" if size else "",
        static("icons.svg"),
        name,
    )


@register.filter
def of(key: Any, named: dict[Any, Any]) -> Any:
    """What stands under this key: `{{ chat.owner_id|of:names }}`."""
    return named.get(key, "")


@register.filter
def bound_value(meter: dict[str, Any]) -> int:
    """What the meter's bar may claim: more than the limit would be no valid ARIA value."""
    return min(meter["used"], meter["limit"])


@register.simple_tag(takes_context=True)
def notices(context: dict[str, Any]) -> list[Message]:
    """What the last request has to say. The chat page's own `messages` are those of the conversation."""
    return list(get_messages(context["request"]))


@register.simple_tag(takes_context=True)
def session_ends(context: dict[str, Any]) -> int | None:
    """Seconds until the reader's session is over."""
    request = context.get("request")
    return sessions.ends_in_s(request.session) if request is not None and request.user.is_authenticated else None


@register.simple_tag
def words() -> dict[str, str]:
    """Every sentence our JavaScript says, in the reader's language. base.html hands them over as JSON."""
    return {
        "answering": _("Answer in progress"),
        "still_writing": _("Still writing"),
        "still_thinking": _("Still thinking"),
        "the_model": _("The model"),
        "slow": _("%s is slow now."),
        "use_other": _("Use %s instead"),
        "done": _("Answer done"),
        "stopped": _("Stopped"),
        "failed": _("The answer broke off"),
        "connection_lost": _(
            "Connection lost. The answer keeps running on the server and will appear when it is back."
        ),
        "back": _("Connected again"),
        "try_now": _("Try now"),
        "not_sent": _("Not sent: the server could not be reached. Your text is kept."),
        "refused": _("Not sent: the server had a problem. Your text is kept."),
        "waits": _("Waits for the connection. Your text is kept."),
        "waiting": _("You are back online. Questions that wait here: %s."),
        "session_over": _("Your session is over. Sign in, and what you wrote is sent."),
        "session_ends": _("Your session ends in two minutes. What you wrote is kept."),
        "stay": _("Stay signed in"),
        "templates_found": _("Templates found: %s. Up and down choose, Enter takes one."),
        "not_stopped": _("The server could not be reached, so the answer goes on. Try to stop it again."),
        "copied": _("Copied"),
        "not_copied": _("Copying is not allowed here"),
        "not_done": _("Nothing was changed: the server could not be reached. Try again."),
        "new_title": _("New title"),
    }
