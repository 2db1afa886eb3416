"""Rows that many tests begin with, made once by the product and written again in a moment, each time under other ids."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import connections, models

from lib.db import SERVICE, scope
from lib.ids import uuid7

IDS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
COLUMNS = """
select table_name, array_agg(format('%%I', column_name)) from information_schema.columns
where table_schema = 'public' and is_generated = 'NEVER' and table_name = any(%(names)s)
      and has_table_privilege(format('%%I', table_name), 'select, insert') group by 1
"""


class Snapshot:
    """What stands in the database after `world` was made in it, which was empty before; `world` holds some of the rows."""

    def __init__(self, before: dict[str, int], world: Any) -> None:
        self.world = world
        self.rows: list[tuple[str, str]] = []  # INSERT, rows as JSON
        columns = _columns()
        with scope(SERVICE), connections["service"].cursor() as cursor:
            for name in _parents_first():
                if name in columns and not before[name]:
                    cursor.execute(f'select json_agg(t)::text from "{name}" t')
                    (rows,) = cursor.fetchone()
                    names = ", ".join(columns[name])
                    insert = f'insert into "{name}" ({names}) select {names} from json_populate_recordset(null::"{name}", %s)'
                    if rows:
                        self.rows.append((insert, rows))
        made = {UUID(found) for _, rows in self.rows for found in IDS.findall(rows)}
        self.ids = sorted(made)  # uuid7: in the order they were made

    def write_again(self) -> Any:
        new = {old: uuid7() for old in self.ids}
        texts = {str(old): str(fresh) for old, fresh in new.items()}
        with scope(SERVICE), connections["service"].cursor() as cursor:
            for insert, rows in self.rows:
                cursor.execute(insert, [IDS.sub(lambda found: texts[found[0]], rows)])
        return type(self.world)(**{name: _as(row, new) for name, row in vars(self.world).items()})


def counts() -> dict[str, int]:
    """How many rows the service sees in each table that it may write."""
    parts = [f"select '{name}', count(*) from \"{name}\"" for name in _columns()]
    with scope(SERVICE), connections["service"].cursor() as cursor:
        cursor.execute(" union all ".join(parts))
        return dict(cursor.fetchall())


def _columns() -> dict[str, list[str]]:
    with scope(SERVICE), connections["service"].cursor() as cursor:
        cursor.execute(COLUMNS, {"names": list(_parents_first())})
        return dict(cursor.fetchall())


def _parents_first() -> Iterator[str]:
    seen: set[type[models.Model]] = set()

    def visit(model: type[models.Model]) -> Iterator[str]:
        if model in seen:
            return
        seen.add(model)
        for field in model._meta.concrete_fields:
            if isinstance(field.related_model, type):
                yield from visit(field.related_model)
        yield model._meta.db_table

    for model in apps.get_models(include_auto_created=True):
        if model._meta.managed:
            yield from visit(model)


def _as(row: models.Model, new: dict[UUID, UUID]) -> models.Model:
    values = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    made = type(row)(
        **{name: new.get(value, value) if isinstance(value, UUID) else value for name, value in values.items()}
    )
    made._state.adding, made._state.db = False, row._state.db
    return made
