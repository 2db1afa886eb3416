"""What the chats that are kept come to: of one member, of a brand, and of each answer of a chat. Runs in the reader's scope.

What was deleted is in none of it; what was used stands in the usage log, deleted chats included.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.cache import cache
from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce

from conversations.models import Conversation
from lib import clock
from lib.db import Principal, send

BY_STATE = """
select case when deleted_at is not null then 'in_bin' when archived_at is not null then 'archived' else 'active' end as state,
       model, agent_id, count(*) as chats, sum(message_count) as messages
from conversations_conversation where brand_id = %(brand)s and owner_id = %(owner)s group by 1, 2, 3
"""
ANSWERS = """
select message_id, model, status, prompt_tokens, completion_tokens, cost_microusd, queue_ms, first_token_ms, total_ms,
       created_at
from conversation_usage where conversation_id = %(conversation)s order by id desc limit %(most)s
"""
MOST_ANSWERS = 100
EXACT_UP_TO = 10_000  # chats of a brand, which are counted in a few milliseconds
KEPT_S = 300


@dataclass(frozen=True, slots=True)
class Kept:
    """The chats of one member: how many, and what of them can be filtered by."""

    total: int
    active: int
    archived: int
    in_bin: int
    messages: int
    models: list[str]  # api_identifiers
    agents: list[UUID]


def of_member(principal: Principal) -> Kept:
    """One query, which reads each of the member's chats once and sorts none."""
    counted = {"active": 0, "archived": 0, "in_bin": 0}
    messages, models, agents = 0, set(), set()
    for row in send((BY_STATE, {"brand": principal.brand_id, "owner": principal.owner_id}))[0]:
        counted[row.state] += row.chats
        messages += row.messages if row.state != "in_bin" else 0
        models.add(row.model)
        agents.add(row.agent_id)
    return Kept(
        **counted,
        total=counted["active"] + counted["archived"],
        messages=messages,
        models=sorted(models - {""}),
        agents=sorted(agents - {None}),
    )


def of_brand(principal: Principal) -> dict[str, Any]:
    """S0 getConversationStats(): every member's and visitor's chats, but for what is in a bin. Money in micro-dollars.

    Counted anew for each reader, which takes as long as there are chats; so of a brand with more than EXACT_UP_TO it is
    told again for KEPT_S, in every process. `counted_at` says when it was so.
    """
    assert principal.role == "app_brand"  # what another role counts is its own: not to be told to the next
    key = f"stats-of-brand:{principal.brand_id}"
    told: dict[str, Any] | None = cache.get(key)
    if told:
        return told
    found = Conversation.objects.filter(brand_id=principal.brand_id, deleted_at=None).aggregate(
        total_conversations=Count("pk"),
        active_conversations=Count("pk", filter=Q(archived_at=None)),
        archived_conversations=Count("pk", filter=Q(archived_at__isnull=False)),
        total_messages=Coalesce(Sum("message_count"), 0),
        total_tokens_used=Coalesce(Sum("total_tokens_used"), 0),
        total_cost_microusd=Coalesce(Sum("total_cost_microusd"), 0),
    )
    found["counted_at"] = clock.now()
    if found["total_conversations"] > EXACT_UP_TO:
        cache.set(key, found, KEPT_S)
    return found


def answers(conversation_id: UUID) -> list[Any]:
    """What each of a chat's answers took, the newest first: S2 `conversation_usage`, times in milliseconds."""
    return send((ANSWERS, {"conversation": conversation_id, "most": MOST_ANSWERS}))[0]
