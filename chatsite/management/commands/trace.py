"""trace: everything that one request, or one turn, left behind."""

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.core.management.base import CommandParser
from django.db.models import Q

from conversations.models import Message, Turn
from events.models import DeadLetter, Event
from lib.commands import OperatorCommand
from lib.errors import NotFound
from quotas.models import Entry, Hold


class Command(OperatorCommand):
    help = (
        "Print what one request left behind: turns, holds, entries, messages (never their text), events, dead letters. "
        "Takes the id that error pages and X-Request-Id show, or a turn's. Its lines in the log have the same request_id."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("id", help="a request's or a turn's")

    def work(self, **options: Any) -> dict[str, Any]:
        wanted = Q(request_id=options["id"])
        with suppress(ValueError):  # somebody's own id for the request
            wanted |= Q(pk=UUID(options["id"]))
        turns = list(Turn.objects.filter(wanted))
        ids = [turn.pk for turn in turns]
        requests = {turn.request_id for turn in turns if turn.request_id} | {options["id"]}
        messages = Message.objects.filter(turn_id__in=ids).order_by("pk")
        about = [*ids, *(message.pk for message in messages)]
        found: dict[str, Any] = {
            "turns": [
                _of(
                    turn, "id status request_id brand_id owner_id provider_id is_charged error_code created_at ended_at"
                )
                for turn in turns
            ],
            "holds": [
                _of(hold, "meter amount expires_at")
                for hold in Hold.objects.filter(reservation__in=ids).order_by("meter", "pk")
            ],
            "entries": [
                _of(entry, "kind used_delta cost_microusd reason created_at") | {"meter": entry.bucket.meter}
                for entry in Entry.objects.filter(reservation__in=ids).select_related("bucket").order_by("pk")
            ],
            "messages": [_of(message, "id role status tokens_used cost_microusd error_code") for message in messages],
            "events": [
                _of(event, "type subject_kind subject_id created_at")
                for event in Event.objects.filter(subject_id__in=about).order_by("pk")
            ],
            "dead_letters": [
                _of(letter, "task reason created_at sent_again_at")
                for letter in DeadLetter.objects.filter(request_id__in=requests)
            ],
        }
        if not any(found.values()):
            raise NotFound(f"Nothing here was done for {options['id']}: no turn and no task. The log may know more.")
        return found

    def words(self, result: dict[str, Any]) -> str:
        return "\n".join(
            f"{kind[:-1].replace('_', ' ')}: " + ", ".join(f"{name} {value}" for name, value in row.items())
            for kind, rows in result.items()
            for row in rows
        ).replace("entrie:", "entry:")


def _of(row: Any, names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names.split() if getattr(row, name) not in (None, "")}
