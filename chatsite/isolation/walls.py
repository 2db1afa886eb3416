"""Checks of the catalogue: every table is walled, its policies and keys compare what they must, and no key talks."""

import re
from typing import Any

from django.db.models import ForeignKey

from chatsite.isolation.catalogue import LOOKED_UP, OF_THE_HOUSE_TOO, Proof, rows, walled, walled_models
from lib.operations import BRAND, OWNER

HASHED = {("accounts_invitation", "token_hash"), ("accounts_apikey", "key_prefix")}  # random, so nothing to guess


def every_table_is_walled(cursor: Any) -> Proof:
    faults, here = [], walled(cursor)
    for table in here.values():
        if not (table.is_enabled and table.is_forced):
            faults.append(f"{table.name} does not force row-level security on everybody")
        if table.owner != "owner":
            faults.append(f"{table.name} belongs to {table.owner}, not to owner")
        if not table.columns.get("brand_id", True) and table.name not in OF_THE_HOUSE_TOO:
            faults.append(f"{table.name}.brand_id may be null")
    faults += [
        f"{model._meta.label} has a brand, but its table {model._meta.db_table} has no brand_id: migrate"
        for model in walled_models()
        if model._meta.db_table not in here
    ]
    elsewhere = rows(
        cursor,
        """
        select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'f') and n.nspname !~ '^pg_' and n.nspname not in ('public', 'information_schema')
        """,
    )
    faults += [f"{name} stands outside the schema public, where nothing is checked" for (name,) in elsewhere]
    return Proof("tables carry a brand or a person, and force row-level security on everybody", len(here), faults)


def every_policy_compares_columns(cursor: Any) -> Proof:
    """Each table has the four policies of EnableRLS, to the letter: no OR, no function per row, no other policy."""
    found = rows(
        cursor,
        """
        select c.relname, p.polname, array(select rolname::text from pg_roles where oid = any(p.polroles)), p.polcmd,
               p.polpermissive, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
        from pg_policy p join pg_class c on c.oid = p.polrelid
        """,
    )
    here = walled(cursor)
    expected: dict[tuple[str, str], tuple[list[str], str, str]] = {}
    for table in here.values():
        of_brand = f"brand_id = {BRAND}" if "brand_id" in table.columns else ""
        of_owner = f"{table.owner_column} = {OWNER}" if table.owner_column else ""
        own = " and ".join(condition for condition in (of_brand, of_owner) if condition)
        expected |= {
            (table.name, "member"): (["app_user"], "*", own),
            (table.name, "visitor"): (["app_visitor"], "*", own),
            (table.name, "brand"): (["app_brand"], "*", of_brand or "false"),
            (table.name, "service"): (["app_service"], "*", "true"),
        }
        if table.name in LOOKED_UP:
            expected[table.name, "lookup"] = (["app_lookup"], "r", "true")
    faults, seen = [], set()
    for table_name, policy, roles, command, is_permissive, using, check in found:
        seen.add((table_name, policy))
        want = expected.get((table_name, policy))
        if want is None:
            faults.append(f"{table_name} has a policy {policy} that no operation of ours makes")
            continue
        check = using if command == "r" else check
        condition = _plain(want[2])
        if (roles, command, _plain(using), _plain(check)) != (want[0], want[1], condition, condition):
            faults.append(f"{table_name}: the policy {policy} is not `{want[2]}` for {want[0][0]}")
        if not is_permissive:
            faults.append(f"{table_name}: the policy {policy} is restrictive")
    faults += [f"{name} has no policy {policy}" for name, policy in expected.keys() - seen]
    return Proof("policies compare brand and owner with the scope's, and nothing else", len(found), sorted(faults))


FOREIGN_KEYS = """
    select con.conname, child.relname, parent.relname,
           array(select attname::text from unnest(con.conkey) with ordinality k (n, i) join pg_attribute
                 on attrelid = con.conrelid and attnum = k.n order by i),
           array(select attname::text from unnest(con.confkey) with ordinality k (n, i) join pg_attribute
                 on attrelid = con.confrelid and attnum = k.n order by i),
           con.convalidated and coalesce((to_jsonb(con) ->> 'conenforced')::boolean, true)
    from pg_constraint con
    join pg_class child on child.oid = con.conrelid join pg_class parent on parent.oid = con.confrelid
    where con.contype = 'f' and con.conparentid = 0
"""


def every_key_carries_the_brand(cursor: Any) -> Proof:
    """A child hangs only on a parent of its own brand and owner, and every relation of the models is such a key."""
    here, faults, tied, branded, count = walled(cursor), [], set(), set(), 0
    for name, child_name, parent_name, columns, to_columns, is_valid in rows(cursor, FOREIGN_KEYS):
        if not is_valid:
            faults.append(f"{name} is not validated and enforced")
        if child_name in here and parent_name == "accounts_brand" and columns == ["brand_id"]:
            branded.add(child_name)
        if parent_name not in here:
            continue
        count += 1
        child, parent = here.get(child_name), here[parent_name]
        if child is None:
            faults.append(f"{name}: {child_name} has no walls and refers to {parent_name}, which has")
            continue
        pairs = dict(zip(columns, to_columns, strict=True))
        tied |= {(child_name, column, parent_name) for column in columns}
        if pairs.get("brand_id") != "brand_id":
            faults.append(f"{name}: {child_name} may hang on another brand's {parent_name}")
        if child.columns.get("owner_id") and parent.columns.get("owner_id") and pairs.get("owner_id") != "owner_id":
            faults.append(f"{name}: {child_name} may hang on another owner's {parent_name}")
        faults += [
            f"{name}: {child_name}.{column} may be null, which switches the key off"
            for column in columns[:-1]
            if not child.columns[column]
        ]
    faults += [
        f"{name}.brand_id refers to no brand"
        for name, table in here.items()
        if "brand_id" in table.columns and name not in branded
    ]
    for model in walled_models():
        for field in model._meta.concrete_fields:
            if isinstance(field, ForeignKey):
                parent_name = field.related_model._meta.db_table
                if parent_name in here and (model._meta.db_table, field.column, parent_name) not in tied:
                    faults.append(f"{model._meta.label}.{field.name}: no key in the database holds it to {parent_name}")
    disabled = rows(
        cursor,
        "select tgrelid::regclass::text, tgname from pg_trigger where tgenabled <> 'O'"
        " and tgrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace)",
    )
    faults += [f"{table}: the trigger {trigger} is switched off" for table, trigger in disabled]
    return Proof("foreign keys between them carry the brand, and the owner where both have one", count, faults)


def every_unique_key_keeps_quiet(cursor: Any) -> Proof:
    """A clash tells that a value is taken. So a unique key holds the brand, or something nobody can guess."""
    found = rows(
        cursor,
        """
        select c.relname, i.indexrelid::regclass::text,
               array_agg(a.attname::text), bool_or(a.atttypid = 'uuid'::regtype)
        from pg_index i join pg_class c on c.oid = i.indrelid
        join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey)
        where i.indisunique and c.relnamespace = 'public'::regnamespace group by c.oid, i.indexrelid
        """,
    )
    here = walled(cursor)
    found = [row for row in found if row[0] in here]
    faults = [
        f"{index} tells one brand which {', '.join(columns)} another one has taken"
        for name, index, columns, has_uuid in found
        if not has_uuid and not any((name, column) in HASHED for column in columns)
    ]
    return Proof("unique keys hold the brand or a random value, so a clash tells nothing", len(found), faults)


def _plain(expression: str | None) -> str:
    """Without what PostgreSQL adds when it prints an expression: casts to text, a name for the sub-select, brackets."""
    return re.sub(r'\s+AS "?nullif"?|::text|[\s()]', "", expression or "", flags=re.IGNORECASE).lower()
