"""Migration operations: the walls of the database, written once.

Every migration that makes a tenant table also runs EnableRLS on it, and CompositeFK for each relation between two of
them. The catalogue test (tests/isolation/test_catalogue.py) fails on a table that was forgotten.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import transaction
from django.db.migrations.operations.base import Operation

from lib.db import on

# The initplan form: PostgreSQL evaluates each sub-select once per statement, not once per row (FACTS: 44 against 144 ms).
# nullif: after the first transaction the setting is the empty string, not NULL, and ''::uuid would raise.
BRAND = "(select nullif(current_setting('app.brand_id', true), '')::uuid)"
OWNER = "(select nullif(current_setting('app.owner_id', true), '')::uuid)"


class _OnOwner(Operation):
    reduces_to_sql = True
    reversible = True
    model_name: str

    def state_forwards(self, app_label: str, state: Any) -> None:
        pass

    def table(self, app_label: str, state: Any, name: str) -> Any:
        return state.apps.get_model(*(name.split(".") if "." in name else (app_label, name)))._meta.db_table

    def require_owner(self, editor: Any) -> bool:
        if editor.connection.alias != "owner":
            raise RuntimeError(
                "Walls are built by the owner of the tables: run `manage.py migrate` without --database."
            )
        return True


class AddIndexAtWork(AddIndexConcurrently):
    """Build an index while everybody goes on reading and writing, in a migration of its own with `atomic = False`.

    It waits for every transaction that is open, however long, and keeps nobody waiting by that, so the lock_timeout of
    `migrate` does not bind it. What an earlier try left unfinished is dropped, and what is there already is left alone.
    """

    def database_forwards(self, app_label: str, editor: Any, from_state: Any, to_state: Any) -> None:
        name = editor.quote_name(self.index.name)
        with editor.connection.cursor() as cursor:
            cursor.execute("select indisvalid from pg_index where indexrelid = to_regclass(%s)", [name])
            found = cursor.fetchone()
            if found and found[0]:
                return
            cursor.execute("select current_setting('lock_timeout'), set_config('lock_timeout', '0', false)")
            before, _ = cursor.fetchone()
        try:
            if found:
                editor.execute(f"drop index concurrently {name}")
            super().database_forwards(app_label, editor, from_state, to_state)
        finally:
            with editor.connection.cursor() as cursor:
                cursor.execute("select set_config('lock_timeout', %s, false)", [before])


class EnableRLS(_OnOwner):
    """Enable and force row-level security, make the policies, and give each role its rights.

    owner    the column that names whose row it is; None when every member may see the brand's rows
    user, visitor, brand   rights of app_user, app_visitor, app_brand on the rows their policy shows ("" = none)
    service  rights of app_service: all rows; an append-only table gives "select, insert"
    brand_column   "" for what belongs to a person on every brand alike
    """

    def __init__(
        self,
        model_name: str,
        *,
        owner: str | None = "owner_id",
        user: str = "",
        visitor: str = "",
        brand: str = "",
        service: str = "select, insert, update, delete",
        brand_column: str = "brand_id",
    ) -> None:
        self.model_name, self.owner, self.brand_column = model_name, owner, brand_column
        self.rights = {"app_user": user, "app_visitor": visitor, "app_brand": brand, "app_service": service}

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        rights = {role.removeprefix("app_"): rights for role, rights in self.rights.items()}
        return (
            type(self).__name__,
            [self.model_name],
            {"owner": self.owner, "brand_column": self.brand_column, **rights},
        )

    def database_forwards(self, app_label: str, editor: Any, from_state: Any, to_state: Any) -> None:
        self.require_owner(editor)
        table = self.table(app_label, to_state, self.model_name)
        of_brand = f"{self.brand_column} = {BRAND}" if self.brand_column else "false"
        own_row = [f"{self.owner} = {OWNER}"] if self.owner else []
        own = " and ".join(([of_brand] if self.brand_column else []) + own_row)
        editor.execute(f'alter table "{table}" enable row level security, force row level security')
        for policy, role, rows in (
            ("member", "app_user", own),
            ("visitor", "app_visitor", own),
            ("brand", "app_brand", of_brand),
            ("service", "app_service", "true"),
        ):
            editor.execute(f'create policy {policy} on "{table}" to {role} using ({rows}) with check ({rows})')
        editor.execute(f'revoke all on "{table}" from app_service')
        for role, rights in self.rights.items():
            if rights:
                editor.execute(f'grant {rights} on "{table}" to {role}')

    def database_backwards(self, app_label: str, editor: Any, from_state: Any, to_state: Any) -> None:
        self.require_owner(editor)
        table = self.table(app_label, from_state, self.model_name)
        for policy in ("member", "visitor", "brand", "service"):
            editor.execute(f'drop policy {policy} on "{table}"')
        editor.execute(f'alter table "{table}" no force row level security, disable row level security')
        editor.execute(f'revoke all on "{table}" from {", ".join(self.rights)}')

    def describe(self) -> str:
        return f"Force row-level security on {self.model_name}"


class CompositeFK(_OnOwner):
    """A foreign key that carries the brand (and the owner) along, so that a child can only hang on its own brand's parent.

    on_update="cascade" lets the owner of a conversation change, and its messages with it (an anonymous chat adopted).
    A null in the last child column means "no parent"; the columns before it are never null.
    """

    def __init__(
        self, model_name: str, columns: Sequence[str], to: str, to_columns: Sequence[str], *, on_delete: str = "cascade"
    ) -> None:
        self.model_name, self.columns, self.to, self.to_columns = model_name, list(columns), to, list(to_columns)
        self.on_delete = on_delete

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return (
            type(self).__name__,
            [self.model_name, self.columns, self.to, self.to_columns],
            {"on_delete": self.on_delete},
        )

    def name(self, table: str) -> str:
        return f"{table}_{self.columns[-1]}_of_same_brand"[:63]

    def database_forwards(self, app_label: str, editor: Any, from_state: Any, to_state: Any) -> None:
        self.require_owner(editor)
        child, parent = self.table(app_label, to_state, self.model_name), self.table(app_label, to_state, self.to)
        # Under FORCE the owner sees no rows, and ADD CONSTRAINT would accept and mark as valid what it cannot see.
        walled = [table for table in dict.fromkeys((child, parent)) if self.is_forced(editor, table)]
        for table in walled:
            editor.execute(f'alter table "{table}" no force row level security')
        editor.execute(
            f'alter table "{child}" add constraint "{self.name(child)}" foreign key ({", ".join(self.columns)}) '
            f'references "{parent}" ({", ".join(self.to_columns)}) on update cascade on delete {self.on_delete} '
            "deferrable initially immediate"
        )
        for table in walled:
            editor.execute(f'alter table "{table}" force row level security')

    def database_backwards(self, app_label: str, editor: Any, from_state: Any, to_state: Any) -> None:
        self.require_owner(editor)
        child = self.table(app_label, from_state, self.model_name)
        editor.execute(f'alter table "{child}" drop constraint "{self.name(child)}"')

    def describe(self) -> str:
        return f"Tie {self.model_name} to {self.to} of the same brand"

    @staticmethod
    def is_forced(editor: Any, table: str) -> bool:
        if editor.collect_sql:
            return True
        with editor.connection.cursor() as cursor:
            cursor.execute("select relforcerowsecurity from pg_class where oid = %s::regclass", [f'"{table}"'])
            return bool(cursor.fetchone()[0])


def as_service(work: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Wrap a data migration: `RunPython(as_service(seed))`. FORCE binds the owner too, so it works as app_service."""

    @functools.wraps(work)
    def run(apps: Any, editor: Any) -> None:
        with on(editor.connection.alias):
            editor.execute("set local role app_service")
            try:
                work(apps, editor)
            finally:
                if not editor.connection.needs_rollback:
                    editor.execute("reset role")

    return run


class FillInBatches(_OnOwner):
    """Run one statement as the service until it finds no more rows, each time in a transaction of its own.

    The statement takes up to %(most)s rows whose id is above %(after)s, and gives the last of these ids. The migration says
    `atomic = False`.
    """

    def __init__(self, statement: str, *, most: int = 500) -> None:
        self.statement, self.most = statement, most

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__name__, [self.statement], {"most": self.most}

    def database_forwards(self, app_label: str, editor: Any, from_state: Any, to_state: Any) -> None:
        self.require_owner(editor)
        after: UUID | None = UUID(int=0)
        while after is not None:
            with transaction.atomic(using=editor.connection.alias), editor.connection.cursor() as cursor:
                cursor.execute("set local role app_service")
                cursor.execute(self.statement, {"after": after, "most": self.most})
                after = next((row[0] for row in cursor.fetchall()), None)
                cursor.execute("reset role")

    def database_backwards(self, app_label: str, editor: Any, from_state: Any, to_state: Any) -> None:
        """What was filled goes with its column."""

    def describe(self) -> str:
        return "Fill old rows, batch by batch"


# Tables outside the walls, and who has which right on them; frozen in the catalogue test.
EXEMPT: dict[str, dict[str, str]] = {
    # Everybody's, inside a scope too: nothing of it is anybody's secret.
    "app_public": {
        "accounts_brand": "select",
        "django_migrations": "select",
        "providers_aiprovider": "select",
        "providers_price": "select",
    },
    # The door's: what finds out who is asking. Only log-ins have it, so inside a scope it is gone: a hole in a page shows
    # nobody's session or password.
    "app_door": {
        "accounts_user": "select, insert, update",
        "account_emailaddress": "select, insert, update, delete",
        "account_emailconfirmation": "select, insert, update, delete",
        "django_session": "select, insert, update, delete",
        "mfa_authenticator": "select, insert, update, delete",
        "socialaccount_socialaccount": "select, insert, update, delete",
        "socialaccount_socialapp": "select",  # always empty: what is configured comes from the environment
        "socialaccount_socialtoken": "select, delete",  # always empty: nothing of a vendor's is kept
        "usersessions_usersession": "select, insert, update, delete",
    },
}


def grant_exempt(cursor: Any) -> None:
    """Give app_public and app_door their frozen lists of rights, and nothing else; runs after every migrate."""
    for role, tables in EXEMPT.items():
        cursor.execute(f"revoke all on all tables in schema public from {role}")
        for table, rights in tables.items():
            cursor.execute(f'grant {rights} on "{table}" to {role}')
