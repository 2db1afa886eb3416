"""What can be listened to: tables, of which somebody hears all that is theirs, or what hangs on one row.

    notifications                 all of one's own
    messages:0190f3b0-…           those of one conversation

Each room says itself which events tell of its rows, how they look, and who may listen to what hangs on one of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from django.http import HttpRequest

from events.models import Event
from lib.db import Principal, scope
from lib.errors import Invalid

Change = Literal["INSERT", "UPDATE", "DELETE"]
Key = tuple[UUID, str, UUID]  # brand, table, and whose rows or what they hang on: where an event finds its listeners
MOST = 20  # topics of one listener


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One kind of row.

    needs    the scope of a key that may listen
    changes  what each type of event did to the row that is its subject
    rows     how rows look now, by id, in the open scope of whoever listens: what that one may not read is not among them
    parent   the name, in an event's data, of what a row hangs on; "" = nobody listens to less than all that is theirs
    hears    in no scope: as whom this principal reads what hangs on that parent. Raises NotFound
    ends     types of events about a parent after which there is nothing to hear of it
    """

    name: str
    needs: str
    changes: Mapping[str, Change]
    rows: Callable[[Principal, Sequence[Event]], Mapping[UUID, Any]]
    parent: str = ""
    hears: Callable[[HttpRequest, Principal, UUID], Principal] | None = None
    ends: frozenset[str] = frozenset()
    is_for_visitors: bool = True

    def keys(self, event: Event) -> Iterable[Key]:
        """Who listens to this event is found under these."""
        if event.owner_id:
            yield event.brand_id, self.name, event.owner_id
        if self.parent and (parent := event.data.get(self.parent)):
            yield event.brand_id, self.name, UUID(parent)


@dataclass(frozen=True, slots=True)
class Topic:
    """What one listener asked to hear, and as whom its rows are read."""

    table: Table
    principal: Principal
    parent_id: UUID | None = None

    @property
    def name(self) -> str:
        return f"{self.table.name}:{self.parent_id}" if self.parent_id else self.table.name

    @property
    def key(self) -> Key:
        return self.principal.brand_id, self.table.name, self.parent_id or self.principal.owner_id


def asked(tables: Sequence[Table], names: str) -> list[tuple[Table, UUID | None]]:
    """Read `topics=notifications,messages:<id>`. Raises Invalid"""
    by_name = {table.name: table for table in tables}
    there_are = ", ".join(f"{table.name}, {table.name}:<id>" if table.parent else table.name for table in tables)
    found: dict[tuple[Table, UUID | None], None] = {}
    for name in filter(None, names.split(",")):
        table_name, _, parent = name.strip().partition(":")
        table = by_name.get(table_name)
        if table is None or (parent and not table.parent):
            raise Invalid(f"Unknown topic: {name[:80]}. There are: {there_are}.", param="topics")
        try:
            found[table, UUID(parent) if parent else None] = None
        except ValueError as error:
            raise Invalid(f"{name[:80]} must end with an id.", param="topics") from error
    if not found:
        raise Invalid(f"Say what to listen to, as topics=… There are: {there_are}.", param="topics")
    if len(found) > MOST:
        raise Invalid(f"At most {MOST} topics over one stream.", param="topics")
    return list(found)


def told(principal: Principal, events: Sequence[tuple[Table, Event]]) -> dict[UUID, Any]:
    """What is told of these events, by their ids, as this principal sees the rows now. In no scope.

    Nothing is told of a row that is not there (any more), or not for this one to read.
    Raises  NotFound when the principal has no standing on the brand (any more)
    """
    found: dict[UUID, Any] = {}
    with scope(principal):
        for table in dict.fromkeys(table for table, _ in events):
            mine = [event for other, event in events if other is table]
            alive = [event for event in mine if table.changes[event.type] != "DELETE"]
            rows = table.rows(principal, alive) if alive else {}
            for event in mine:
                change = table.changes[event.type]
                row, old = rows.get(event.subject_id), None
                if change == "DELETE":
                    old = {"id": event.subject_id} | (
                        {table.parent: event.data.get(table.parent)} if table.parent else {}
                    )
                elif row is None:
                    continue
                found[event.pk] = {"event": change, "table": table.name, "at": event.created_at, "new": row, "old": old}
    return found
