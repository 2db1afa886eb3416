"""What a database holds: the numbers by which a backup is known to be whole, and a restored database to be the same."""

from collections.abc import Iterator
from typing import Any

from chatsite.isolation.catalogue import rows

Survey = dict[str, Any]  # plain JSON values: it travels in the manifest

TABLES = """
    select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') order by 1
"""
# app_service must see every row, or pg_dump leaves out what it does not see and says nothing.
BLIND_SPOTS = """
    with policies as (
        select polrelid, polpermissive, pg_get_expr(polqual, polrelid) = 'true' as shows_all from pg_policy
        where polcmd in ('*', 'r')
              and exists (select from unnest(polroles) r where r = 0 or pg_has_role('app_service', r, 'usage'))
    )
    select relname from pg_class c where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and (
        not has_table_privilege('app_service', oid, 'select')
        or relrowsecurity and not exists (select from policies where polrelid = oid and polpermissive and shows_all)
        or relrowsecurity and exists (select from policies where polrelid = oid and not polpermissive)
    ) order by 1
"""
LEDGER = """
    select json_build_object(
        'limit', (select coalesce(sum(limit_delta), 0) from quotas_entry),
        'used', (select coalesce(sum(used_delta), 0) from quotas_entry),
        'held', (select coalesce(sum(amount), 0) from quotas_hold),
        'cost_microusd', (select coalesce(sum(cost_microusd), 0) from quotas_entry))
"""
WALLED = """
    select relname from pg_class where relnamespace = 'public'::regnamespace and relrowsecurity and relforcerowsecurity
    order by 1
"""
OWNERS = """
    select 'table public.' || quote_ident(relname), pg_get_userbyid(relowner) from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
    union all
    select 'function ' || p.oid::regprocedure, pg_get_userbyid(proowner) from pg_proc p
    join pg_namespace n on n.oid = pronamespace
    where nspname in ('public', 'lookup')
          and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
    order by 1
"""
SEQUENCES = "select sequencename, last_value from pg_sequences where schemaname = 'public' order by 1"
MIGRATIONS = "select app || '.' || name from django_migrations order by 1"


def blind_spots(cursor: Any) -> list[str]:
    """Tables of which app_service would not see every row."""
    return [name for (name,) in rows(cursor, BLIND_SPOTS)]


def counts(cursor: Any) -> Iterator[tuple[str, int]]:
    """(table, rows) of each table. Needs the service's role; takes a scan of each."""
    for (table,) in rows(cursor, TABLES):
        ((count,),) = rows(cursor, f'select count(*) from "{table}"')  # noqa: S608 - a name out of the catalogue
        yield table, count


def survey(cursor: Any) -> Survey:
    """All of it, of the open transaction's instant, but for the sequences. Needs the service's role."""
    ((ledger,),) = rows(cursor, LEDGER)
    return {
        "tables": dict(counts(cursor)),
        "ledger": ledger,
        "walled": [name for (name,) in rows(cursor, WALLED)],
        "owners": dict(rows(cursor, OWNERS)),
        "sequences": dict(rows(cursor, SEQUENCES)),
        "migrations": [name for (name,) in rows(cursor, MIGRATIONS)],
    }


def differences(was: Survey, here: Survey) -> list[str]:
    """Each thing that is not here as it was, in words."""
    found = []
    for name, words in (("tables", "rows in"), ("ledger", "the ledger's"), ("owners", "owner of")):
        for key in sorted({*was[name], *here[name]}):
            before, after = was[name].get(key), here[name].get(key)
            if before != after:
                found.append(f"{words} {key}: {after} here, {before} in the backup")
    for key, before in was["sequences"].items():  # no snapshot holds them: the dump, taken later, may be ahead
        after = here["sequences"].get(key)
        if key not in here["sequences"] or (after or 0) < (before or 0):
            found.append(f"at {key}: {after} here, {before} in the backup")
    for name, words in (("walled", "forced row-level security"), ("migrations", "the migration")):
        found += [f"{words} {key} is in the backup and not here" for key in was[name] if key not in here[name]]
        found += [f"{words} {key} is here and not in the backup" for key in here[name] if key not in was[name]]
    return found
