"""What PostgreSQL's own catalogue knows of our tables. A new one need not be told of: it is found here."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db.models import Model

PERSONAL = {"accounts_profile"}  # walled, though it is on no brand
PERSONS = {"accounts_visitor": "id"}  # rows that are somebody, not somebody's
OF_THE_HOUSE_TOO = {"events_activity", "events_activityorigin"}  # a row without a brand is the service's alone
LOOKED_UP = {
    "accounts_membership",
    "accounts_visitor",
    "accounts_apikey",
}  # app_lookup reads these, to tell who is asking


@dataclass(frozen=True, slots=True)
class Proof:
    """`count` things were looked at; each of `faults` says what is wrong with one of them."""

    claim: str
    count: int
    faults: list[str]


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    owner: str
    is_enabled: bool
    is_forced: bool
    columns: dict[str, bool]  # whether it is NOT NULL, by name

    @property
    def is_walled(self) -> bool:
        return "brand_id" in self.columns or self.name in PERSONAL

    @property
    def owner_column(self) -> str | None:
        """The column that says whose row it is; a nullable one does not."""
        mine = (column for column in ("owner_id", "user_id") if self.columns.get(column))
        return PERSONS.get(self.name) or next(mine, None)


def rows(cursor: Any, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
    cursor.execute(sql, params)
    return list(cursor.fetchall())


def tables(cursor: Any) -> dict[str, Table]:
    found = rows(
        cursor,
        """
        select c.relname, pg_get_userbyid(c.relowner), c.relrowsecurity, c.relforcerowsecurity,
               array_agg(a.attname::text), array_agg(a.attnotnull)
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') group by c.oid order by 1
        """,
    )
    return {
        name: Table(name, owner, is_enabled, is_forced, dict(zip(columns, not_null, strict=True)))
        for name, owner, is_enabled, is_forced, columns, not_null in found
    }


def walled(cursor: Any) -> dict[str, Table]:
    return {name: table for name, table in tables(cursor).items() if table.is_walled}


def walled_models() -> list[type[Model]]:
    """In the order of INSTALLED_APPS."""
    return [
        model
        for model in apps.get_models(include_auto_created=True)
        if any(field.column == "brand_id" for field in model._meta.concrete_fields) or model._meta.db_table in PERSONAL
    ]


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
