"""What a visitor wrote last, on the pages where they get an account."""

from typing import Any

from django import template

from conversations.pages import visiting

register = template.Library()


@register.inclusion_tag("conversations/_waiting.html", takes_context=True)
def waiting_message(context: dict[str, Any]) -> dict[str, Any]:
    return {"waiting": visiting.newest_waiting(context["request"])}
