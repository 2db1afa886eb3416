"""The bell: how many notices a member has not read."""

from typing import Any

from django import template

from events import notices

register = template.Library()


@register.simple_tag(takes_context=True)
def unread(context: dict[str, Any]) -> int | None:
    """None where nobody's bell can be asked: for strangers, and on pages that are drawn outside a member's scope."""
    request = context["request"]
    return notices.unread(request.principal) if hasattr(request, "standing") else None
