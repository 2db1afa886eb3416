"""Break-ins, tried for real: two throw-away brands with a row in every walled table, and everybody at everybody's rows.

Rows are made from the models, and the tables are found in the catalogue, so a new table is tried without being named
here. Beside each refusal stands the same act on one's own row, which must work: a wall that stops everybody proves
nothing.
"""
# ruff: noqa: S608 - the names in these statements come from the catalogue and the models

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.db import Error, connections, models, transaction
from django.utils import timezone

from accounts.models import Brand, Membership, User, Visitor
from chatsite.isolation.catalogue import Proof, Table, walled, walled_models
from chatsite.isolation.rights import ROWS
from lib.db import SERVICE, Principal, Role, current_alias, on, scope
from lib.ids import uuid7
from lib.sealed import Sealed, SealedMixin

DENIED, CLASH, NO_PARENT = "42501", "23505", "23503"
PERSONS: tuple[Role, ...] = ("app_brand", "app_user", "app_visitor")  # the brand's owner, a member, a visitor


@dataclass(slots=True)
class Side:
    """A throw-away brand: its people, and their row of every walled table, by (table, owner)."""

    brand: Brand
    people: dict[Role, UUID] = field(default_factory=dict)
    rows: dict[tuple[str, UUID], models.Model] = field(default_factory=dict)

    def principal(self, role: Role) -> Principal:
        return Principal(role, self.brand.pk, self.people[role])


@dataclass(slots=True)
class Outcome:
    """What the database answered: an error's code, or how many rows it touched."""

    code: str
    count: int
    found: list[Any]

    def __str__(self) -> str:
        return {DENIED: "refused", CLASH: "a clash", NO_PARENT: "no such parent"}.get(
            self.code, self.code or f"{self.count} rows"
        )


def make_sides() -> tuple[Side, Side]:
    """Two brands with three people each; needs the service's scope. Nothing is named like anything of a real brand."""
    return _make_side(), _make_side()


def _make_side() -> Side:
    name = f"trial-{uuid7().hex}"
    side = Side(Brand.objects.create(slug=name[:40], name="Trial", domain=f"{name}.invalid"))
    standings: tuple[tuple[Role, str], ...] = (("app_brand", "owner"), ("app_user", "member"))
    for role, standing in standings:
        user = User.objects.create(email=f"{standing}@{name}.invalid", password="!")  # noqa: S106 - nobody logs in
        side.people[role] = user.pk
        membership = Membership.objects.create(brand=side.brand, user=user, role=standing)
        side.rows[Membership._meta.db_table, user.pk] = membership
    visitor = Visitor.objects.create(brand=side.brand)
    side.people["app_visitor"] = visitor.pk
    side.rows[Visitor._meta.db_table, visitor.pk] = visitor
    for model in walled_models():
        for person in side.people.values():
            if _may_own(model, person, side):
                row_of(side, model, person)
    return side


def _may_own(model: type[models.Model], person: UUID, side: Side) -> bool:
    if model is Visitor:
        return False
    names_a_user = any(f.related_model is User and f.name == "user" for f in model._meta.concrete_fields)
    return not (names_a_user and person == side.people["app_visitor"])


def row_of(side: Side, model: type[models.Model], person: UUID) -> models.Model:
    """The person's row of that table; made, with its parents, when it is asked for first."""
    key = (model._meta.db_table, person)
    if key not in side.rows:
        side.rows[key] = new_row(side, model, person)
        model._default_manager.bulk_create([side.rows[key]])
    return side.rows[key]


def new_row(side: Side, model: type[models.Model], person: UUID) -> models.Model:
    """A row that the table would take, not stored yet."""
    values = {
        field.attname: _value(field, side, person)
        for field in model._meta.concrete_fields
        if field.name in ("brand", "owner_id")
        or field.remote_field
        or not (field.has_default() or field.null or field.generated)
    }
    return model(**values)


def _value(field: Any, side: Side, person: UUID) -> Any:
    if field.name == "brand":
        return side.brand.pk
    if field.name == "owner_id":
        return person
    if field.related_model is User:
        return person if person in (side.people["app_brand"], side.people["app_user"]) else side.people["app_brand"]
    if field.related_model is not None:
        return row_of(side, field.related_model, person).pk
    if field.choices:
        return field.choices[0][0]
    match field:
        case SealedMixin():
            return Sealed(b"\1\1-")  # of a key that no ring has: nobody opens it
        case models.UUIDField():
            return uuid7()
        case models.EmailField():
            return f"{uuid7().hex}@trial.invalid"
        case models.CharField() | models.TextField():
            return uuid7().hex[-(field.max_length or 32) :]
        case models.DateTimeField():
            return timezone.now()
        case models.IntegerField():
            return 1
        case models.JSONField():
            return {}
        case ArrayField():
            return []
    raise TypeError(f"say here what a {type(field).__name__} may hold: {field}")


def attempt(sql: str, params: Any = None) -> Outcome:
    """Run one statement and take it back."""
    connection = connections[current_alias()]
    try:
        with transaction.atomic(using=connection.alias):
            with connection.cursor() as cursor:
                cursor.execute(sql, params)
                outcome = Outcome("", cursor.rowcount, [row[0] for row in cursor] if cursor.description else [])
            transaction.set_rollback(True, using=connection.alias)
            return outcome
    except Error as error:
        return Outcome(getattr(error.__cause__, "sqlstate", None) or "unknown", 0, [])


def attempt_insert(row: models.Model) -> Outcome:
    using = current_alias()
    try:
        with transaction.atomic(using=using):
            type(row)._default_manager.bulk_create([row])
            transaction.set_rollback(True, using=using)
        return Outcome("", 1, [])
    except Error as error:
        return Outcome(getattr(error.__cause__, "sqlstate", None) or "unknown", 0, [])


def break_in(mine: Side, theirs: Side, role: Role) -> Proof:
    """As one person of one brand: read, change, move, remove and add in every table; own rows yes, any others no."""
    with scope(mine.principal(role)):
        connection = connections[current_alias()]
        with connection.cursor() as cursor:
            tables = walled(cursor)
            rights = {name: {right for right in ROWS if _has(cursor, role, name, right)} for name in tables}
        count, faults = 0, []
        for model in walled_models():
            table = tables[model._meta.db_table]
            for act, fault in _at_table(model, table, mine, theirs, role, rights[table.name]):
                count += 1
                if fault:
                    faults.append(f"{role} {act} {table.name}: {fault}")
    return Proof(f"attempts of {_who(role)} at every table: own rows only", count, faults)


def _at_table(
    model: type[models.Model], table: Table, mine: Side, theirs: Side, role: Role, rights: set[str]
) -> Iterator[tuple[str, str]]:
    key, person = model._meta.pk.column, mine.people[role]
    rows = {owner: row.pk for (name, owner), row in mine.rows.items() if name == table.name}
    is_shared = table.owner_column is None or (role == "app_brand" and "brand_id" in table.columns)
    shown = {pk for owner, pk in rows.items() if is_shared or owner == person}
    hidden = set(rows.values()) - shown | {row.pk for (name, _), row in theirs.rows.items() if name == table.name}
    name = f'"{table.name}"'

    def expect(act: str, outcome: Outcome, *, is_right: bool, rows_touched: int) -> tuple[str, str]:
        if is_right:
            is_fine = not outcome.code and outcome.count == rows_touched
        else:
            is_fine = outcome.code == DENIED
        wanted = f"{rows_touched} rows" if is_right else "refused"
        return act, "" if is_fine else f"{outcome}, where it must be {wanted}"

    reading = attempt(f"select {key} from {name}")
    is_exact = set(reading.found) == shown if "select" in rights else reading.code == DENIED
    wanted = f"exactly the {len(shown)} of its own" if "select" in rights else "refused"
    yield "reads", "" if is_exact else f"{reading}, where it must be {wanted}"
    for act, right, sql in (
        ("changes", "update", f"update {name} set {key} = {key} where {key} = any(%s)"),
        ("removes", "delete", f"delete from {name} where {key} = any(%s)"),
    ):
        may = right in rights and "select" in rights
        yield expect(f"{act} others' rows of", attempt(sql, [list(hidden)]), is_right=may, rows_touched=0)
        yield expect(f"{act} own rows of", attempt(sql, [list(shown)]), is_right=may, rows_touched=len(shown))

    for column, value in _elsewhere(table, mine, theirs, role) if shown else ():
        moving = attempt(f"update {name} set {column} = %s where {key} = any(%s)", [value, list(shown)])
        yield expect(f"gives away (by {column}) own rows of", moving, is_right=False, rows_touched=0)

    if model is Visitor:  # whose row is the visitor, so that nobody else's can be added
        return
    strangers = [(theirs, theirs.people[role])]
    strangers += [(mine, other) for other in mine.people.values() if not is_shared and other != person]
    for side, owner in strangers:
        if (table.name, owner) in side.rows:
            yield expect(
                "adds for somebody else to", attempt_insert(new_row(side, model, owner)), is_right=False, rows_touched=0
            )
    if (table.name, person) in mine.rows:
        adding = attempt_insert(new_row(mine, model, person))
        if adding.code == CLASH:  # the row is there already; the wall has let it through to the unique key
            adding = Outcome("", 1, [])
        yield expect("adds own to", adding, is_right="insert" in rights, rows_touched=1)


def _elsewhere(table: Table, mine: Side, theirs: Side, role: Role) -> Iterator[tuple[str, UUID]]:
    if "brand_id" in table.columns:
        yield "brand_id", theirs.brand.pk
    if table.owner_column and (role != "app_brand" or "brand_id" not in table.columns):
        other: Role = "app_user" if role == "app_brand" else "app_brand"
        yield table.owner_column, mine.people[other]


def hang_elsewhere(mine: Side, theirs: Side) -> Proof:
    """As the service, whom no policy stops: hang each child on a foreign parent. The keys alone must refuse it."""
    count, faults = 0, []
    with scope(SERVICE), connections[current_alias()].cursor() as cursor:
        tables = walled(cursor)
        for model, relation, related in _relations():
            child, parent = tables[model._meta.db_table], tables[related._meta.db_table]
            # Of owners who have nothing else, so that no unique key refuses before the foreign key is asked.
            foreign = [row_of(theirs, related, uuid7())]
            if child.columns.get("owner_id") and parent.columns.get("owner_id"):
                foreign.append(row_of(mine, related, uuid7()))
            for other in foreign:
                row = new_row(mine, model, uuid7())
                setattr(row, relation, other.pk)
                outcome = attempt_insert(row)
                count += 1
                if outcome.code != NO_PARENT:
                    faults.append(f"{child.name} hung on a foreign {parent.name}: {outcome}")
    return Proof("children offered to a parent of another brand or owner: the keys refuse each", count, faults)


def _relations() -> Iterator[tuple[type[models.Model], str, type[models.Model]]]:
    behind = walled_models()
    for model in behind:
        for relation in model._meta.concrete_fields:
            if relation.related_model in behind:
                yield model, relation.attname, relation.related_model


BEYOND_WEB = (
    "set role app_service",
    "set role app_lookup",
    "set role owner",
    "set session authorization worker",
    "set session_replication_role = replica",
    "alter table conversations_message disable row level security",
    "truncate conversations_message",
    "create table public.mine (id int)",
    "create temporary table accounts_membership (id int)",
    "create function lookup.standing(uuid) returns text language sql as 'select 1'",
    "delete from accounts_user",
    "insert into accounts_user (id, email, password, is_superuser, is_active, is_staff, date_joined)"
    " values (gen_random_uuid(), 'staff@trial.invalid', '!', false, true, true, now())",
    "update accounts_brand set is_active = true",
    "select pg_read_file('PG_VERSION')",
    "copy accounts_user to program 'true'",
)


def knock_without_a_name() -> Proof:
    """As the web log-in before anybody signed in: no table behind the walls opens, and none of the walls moves."""
    with connections["default"].cursor() as cursor:
        names = list(walled(cursor))
    statements = [
        *(f'select from "{name}"' for name in names),
        *(f'delete from "{name}"' for name in names),
        *(f'insert into "{name}" default values' for name in names),
        *BEYOND_WEB,
    ]
    tried = [(sql, attempt(sql)) for sql in statements]
    faults = [f"web, without a scope: `{sql}` gave {outcome}" for sql, outcome in tried if outcome.code != DENIED]
    return Proof("attempts of the web log-in without a scope: refused", len(tried), faults)


@contextmanager
def taken_back() -> Iterator[tuple[Side, Side]]:
    """Both sides, on the service's connection, in a transaction that never commits: fit for a live database."""
    with on("service"), transaction.atomic(using="service"):
        with scope(SERVICE):
            sides = make_sides()
        yield sides
        transaction.set_rollback(True, using="service")


def run() -> list[Proof]:
    with taken_back() as (a, b):
        proofs = [break_in(a, b, role) for role in PERSONS] + [hang_elsewhere(a, b)]
    return [*proofs, knock_without_a_name()]


def _has(cursor: Any, role: str, table: str, right: str) -> bool:
    cursor.execute("select has_table_privilege(%s, %s, %s)", [role, f'public."{table}"', right])
    return bool(cursor.fetchone()[0])


def _who(role: Role) -> str:
    return {"app_brand": "a brand's owner", "app_user": "a member", "app_visitor": "a visitor"}[role]
