"""REST: what may be asked, what it costs, what was used (docs/api.md). S1 `can`, S0 checkQuota(), S2's limits."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.urls import path
from rest_framework import serializers

from accounts.access import BrandRequest
from accounts.keys import READ
from accounts.rest import Api, operation
from accounts.rest.fields import Flag, Id, Moment, Query, Text, Whole
from lib import clock
from lib.errors import Invalid
from lib.ids import uuid7
from quotas import usage
from quotas.decision import METERS, Decision, can_user_query, check_conversation_limit
from quotas.models import Meter

MOST_AMOUNT = 10**12
MOST_LINES = 100
ALSO_CALLED = {"prompt_tokens": Meter.TOKENS.value}  # S0


class MeterLeft(serializers.Serializer[Any]):
    """One meter of your plan, in its window. `limit` and `left` null: no limit."""

    meter = Text()
    window = Text(help_text="lifetime, day, month or none")
    limit = Whole(allow_null=True)
    used = Whole()
    held = Whole(help_text="Held for answers that are being written.")
    left = Whole(allow_null=True)
    resets_at = Moment(allow_null=True)


class PackLeft(serializers.Serializer[Any]):
    """A prepaid pack, used when the plan has nothing left."""

    name = Text()
    meter = Text()
    left = Whole()
    limit = Whole()
    expires_at = Moment(allow_null=True)


class Overage(serializers.Serializer[Any]):
    """What may be charged beyond the plan, this month, in micro-dollars (25000 is $0.025)."""

    is_on = Flag()
    price_microusd = Whole()
    cap_microusd = Whole()
    used_microusd = Whole()
    left_microusd = Whole()
    resets_at = Moment(allow_null=True)


class Verdict(serializers.Serializer[Any]):
    """What the next question would meet. It holds nothing: whoever asks next may be first."""

    can_query = Flag()
    has_quota = Flag(source="can_query", help_text="The same, by S0's name.")
    reason = Text(help_text="`allowed`, or a stable code of why not.")
    detail = Text(help_text="The same in a sentence.")
    requires_payment = Flag(help_text="Paying would help.")
    ways = serializers.ListField(child=Text(), help_text="What can be done now, the most obvious first.")
    pocket = Text(help_text="What would pay: plan, pack, overage or own_key; empty when nothing would.")
    price_microusd = Whole()
    plan = Text(source="plan_name")
    unit = Text(help_text="The meter that the plan counts by.")
    zone = Text(help_text="Days and months begin at midnight here.")
    meters = MeterLeft(many=True)
    packs = PackLeft(many=True)
    overage = Overage(allow_null=True)
    meter = Text(help_text="The meter that was asked about.")
    amount = Whole()


class ConversationLimit(serializers.Serializer[Any]):
    """Whether one more conversation may begin."""

    can_start = Flag()
    reason = Text()
    detail = Text()
    requires_payment = Flag()
    ways = serializers.ListField(child=Text())
    pocket = Text()
    price_microusd = Whole()
    is_counted = Flag(help_text="False: the plan does not count conversations, and the numbers are null.")
    limit = Whole(allow_null=True)
    used = Whole(allow_null=True)
    held = Whole(allow_null=True)
    left = Whole(allow_null=True)
    resets_at = Moment(allow_null=True)


class UsageLine(serializers.Serializer[Any]):
    """One use, as it was settled."""

    id = Id()
    created_at = Moment()
    usage_type = Text()
    model = Text()
    prompt_tokens = Whole()
    completion_tokens = Whole()
    total_tokens = Whole()
    pocket = Text()
    counted_against_quota = Flag()
    overage = Flag()
    byok = Flag()
    unit_cost_microusd = Whole()
    total_cost_microusd = Whole()


class UsagePage(serializers.Serializer[Any]):
    """Uses, the newest first."""

    results = UsageLine(many=True)
    next = Text(allow_null=True, help_text="Give this as `before`; null on the last page.")


class UsageDay(serializers.Serializer[Any]):
    """One day in the brand's zone."""

    day = serializers.DateField()
    queries = Whole()
    plan_queries = Whole()
    pack_queries = Whole()
    overage_queries = Whole()
    own_key_queries = Whole()
    conversations = Whole()
    total_tokens = Whole()
    total_cost_microusd = Whole()


class Asked(Query):
    meter = Text(
        required=False,
        max_length=40,
        help_text=f"One of {', '.join([*METERS, *ALSO_CALLED])}; the unit of the plan when it is left out.",
    )
    amount = Whole(min_value=1, max_value=MOST_AMOUNT, default=1)


class Lines(Query):
    limit = Whole(min_value=1, max_value=MOST_LINES, default=50)
    before = Id(required=False, help_text="What the page before gave as `next`.")


class Days(Query):
    days = Whole(min_value=1, max_value=366, default=30)


A_METER = {"meter": "queries", "window": "day", "limit": 15, "used": 3, "held": 0, "left": 12, "resets_at": None}
A_VERDICT = {
    "can_query": True, "has_quota": True, "reason": "allowed", "detail": "12 of 15 questions are left.",
    "requires_payment": False, "ways": [], "pocket": "plan", "price_microusd": 0, "plan": "Basic", "unit": "queries",
    "zone": "UTC", "meters": [A_METER], "packs": [], "overage": None, "meter": "queries", "amount": 1,
}  # fmt: skip
A_LIMIT = {
    "can_start": True, "reason": "allowed", "detail": "3 of 5 conversations are left.", "requires_payment": False,
    "ways": [], "pocket": "plan", "price_microusd": 0, "is_counted": True, "limit": 5, "used": 2, "held": 0, "left": 3,
    "resets_at": "2026-12-01T00:00:00+00:00",
}  # fmt: skip
A_LINE = {
    "id": "019aa1c2-7d3e-7c60-b5f4-0a1b2c3d4e5f", "created_at": "2026-11-21T20:15:00.123456+00:00",
    "usage_type": "message", "model": "demo", "prompt_tokens": 12, "completion_tokens": 40, "total_tokens": 52,
    "pocket": "plan", "counted_against_quota": True, "overage": False, "byok": False, "unit_cost_microusd": 0,
    "total_cost_microusd": 0,
}  # fmt: skip
A_DAY = {
    "day": "2026-11-21", "queries": 3, "plan_queries": 3, "pack_queries": 0, "overage_queries": 0, "own_key_queries": 0,
    "conversations": 1, "total_tokens": 180, "total_cost_microusd": 0,
}  # fmt: skip


class OfMeter(Api):
    tag = "Quota and usage"


class QuotaCheck(OfMeter):
    @operation("checkQuota", "chat", READ, query=Asked, answers=Verdict(), goes_out=True, tagged=True, told=A_VERDICT)
    def get(self, request: BrandRequest) -> Any:
        """Ask whether there is room

        For one question, or for an amount of one meter. A refusal is an answer here, not an error.
        """
        return self.verdict(request)

    def verdict(self, request: BrandRequest) -> Mapping[str, Any]:
        meter = self.query.get("meter", "")
        amount = self.query["amount"]
        if meter and (meter := ALSO_CALLED.get(meter, meter)) not in METERS:
            there_are = ", ".join([*METERS, *ALSO_CALLED])
            raise Invalid(f"There is no such meter. There are: {there_are}.", param="meter")
        # What a question in a new chat takes, whichever of these the plan counts; how many tokens nobody knows yet.
        one = {
            Meter.QUERIES.value: amount,
            Meter.MESSAGES.value: amount,
            Meter.CONVERSATIONS.value: amount,
            Meter.TOKENS.value: 1,
        }
        decision = can_user_query(
            request.brand, asker=request.principal.payer, amounts={meter: amount} if meter else one
        )
        return _told(decision, request) | {"meter": meter or decision.unit, "amount": amount}


class Can(QuotaCheck):
    @operation("canUserQuery", "chat", READ, query=Asked, answers=Verdict(), goes_out=True, tagged=True, told=A_VERDICT)
    def get(self, request: BrandRequest) -> Any:
        """Ask whether the next question may be asked

        `can_query`, why not, what would pay, what is left and when it resets: `quota/check` under S1's name.
        """
        return self.verdict(request)


class Limit(OfMeter):
    @operation(
        "checkConversationLimit", "chat", READ, answers=ConversationLimit(), goes_out=True, tagged=True, told=A_LIMIT
    )
    def get(self, request: BrandRequest) -> Any:
        """Ask whether one more conversation may begin

        Asking on in one that was begun needs none.
        """
        decision = check_conversation_limit(request.brand, asker=request.principal.payer)
        meter = decision.meter(Meter.CONVERSATIONS)
        counted = {name: getattr(meter, name, None) for name in ("limit", "used", "held", "left", "resets_at")}
        told = _told(decision, request) | {"can_start": decision.can_query, "is_counted": meter is not None}
        return told | counted


class Usage(OfMeter):
    @operation("listUsage", READ, query=Lines, answers=UsagePage(), told={"results": [A_LINE], "next": None})
    def get(self, request: BrandRequest) -> Any:
        """List what you used

        One line for each use, the newest first.
        """
        limit = self.query["limit"]
        rows = usage.newest(request.principal, limit=limit + 1, before=self.query.get("before") or uuid7())
        return {"results": rows[:limit], "next": str(rows[limit - 1].pk) if len(rows) > limit else None}


class DailyUsage(OfMeter):
    @operation("listDailyUsage", READ, query=Days, answers=UsageDay(many=True), told=A_DAY)
    def get(self, request: BrandRequest) -> Any:
        """List what you used, day by day

        The days on which something was used, oldest first, in the brand's zone.
        """
        since = (clock.now() - timedelta(days=self.query["days"])).date()
        who = request.principal
        return usage.by_day(who.brand_id, who.owner_id, since=since)


def _told(decision: Decision, request: BrandRequest) -> dict[str, Any]:
    told = {name: getattr(decision, name) for name in decision.__slots__}
    beyond = decision.beyond
    return told | {"zone": request.brand.zone, "overage": beyond if beyond and beyond.is_allowed else None}


urlpatterns = [
    path("can", Can.as_view(), name="can"),
    path("quota/check", QuotaCheck.as_view(), name="quota-check"),
    path("usage", Usage.as_view(), name="usage"),
    path("usage/daily", DailyUsage.as_view(), name="daily-usage"),
    path("conversations/limit", Limit.as_view(), name="conversation-limit"),
]
