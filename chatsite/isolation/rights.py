"""Checks of the catalogue: who may become whom, who has which right, and what code runs with somebody else's."""

from typing import Any

from chatsite.isolation.catalogue import LOOKED_UP, Proof, listed, rows, walled
from chatsite.roles import GROUPS, INHERITS, LOGINS, MAY_BECOME, TENANT, TESTER
from lib.operations import EXEMPT

DEFINERS = {
    "lookup.standing(uuid,uuid)",
    "lookup.api_key(text,text)",
    "lookup.api_key_holder(text,text)",
    "lookup.link_activity()",
}
# What only the trigger of the audit log writes, which runs as app_lookup: nobody may become that.
CHAIN = {"events_activitylink": {"select", "insert"}, "events_activityhead": {"select", "insert", "update"}}
OURS = (*GROUPS, *LOGINS, TESTER)
PEOPLE = ("app_public", "app_door", *TENANT, "web", "worker", TESTER)


def every_role_is_bounded(cursor: Any) -> Proof:
    """No role of ours is mighty, and each may become what chatsite.roles says, to the letter."""
    found = rows(
        cursor,
        "select rolname, rolsuper, rolbypassrls, rolcreaterole, rolreplication from pg_roles where rolname = any(%s)",
        [list(OURS)],
    )
    present = {row[0] for row in found}
    faults = [f"there is no role {role}" for role in OURS if role not in present and role != TESTER]
    for role, *mighty in found:
        names = ("superuser", "bypassrls", "createrole", "replication")
        faults += [f"{role} is {name}" for name, has in zip(names, mighty, strict=True) if has]
    wanted = {(role, member, True, False) for member in present for role in INHERITS.get(member, ())}
    wanted |= {(role, member, False, True) for member in present for role in MAY_BECOME.get(member, ())}
    memberships = rows(
        cursor,
        """
        select r.rolname, m.rolname, a.inherit_option, a.set_option
        from pg_auth_members a join pg_roles r on r.oid = a.roleid join pg_roles m on m.oid = a.member
        where (m.rolname = any(%(ours)s) or r.rolname = any(%(ours)s)) and not m.rolsuper
              and (a.inherit_option or a.set_option)
        """,
        {"ours": list(OURS)},
    )
    for role, member, inherits, may_set in set(memberships) ^ wanted:
        how = "has the rights of" if inherits else "may become"
        wrong = "and must not" if (role, member, inherits, may_set) in set(memberships) else "no longer, though it must"
        faults.append(f"{member} {how} {role}, {wrong}")
    if rows(cursor, "select pg_has_role('web', 'app_service', 'member')") != [(False,)]:
        faults.append("web can reach app_service, which sees every row")
    presets = rows(
        cursor,
        """
        select coalesce(nullif(s.setrole, 0)::regrole::text, 'everybody'), setting
        from pg_db_role_setting s cross join unnest(s.setconfig) setting
        where setdatabase in (0, (select oid from pg_database where datname = current_database()))
              and setting ~ '^(app\\.|role=|row_security=|search_path=|session_replication_role=)'
        """,
    )
    faults += [f"{setting} is preset for {role}" for role, setting in presets]
    return Proof("roles have no might of their own and may become only what they must", len(found), sorted(faults))


GRANTS = """
    select case c.relkind when 'S' then 'sequence' when 'v' then 'view' else 'table' end, n.nspname || '.' || c.relname,
           coalesce(nullif(g.grantee, 0)::regrole::text, 'everybody'), lower(g.privilege_type), g.is_grantable
    from pg_class c join pg_namespace n on n.oid = c.relnamespace, aclexplode(c.relacl) g
    where n.nspname in ('public', 'lookup') and g.grantee <> c.relowner
    union all
    select 'column', n.nspname || '.' || c.relname || '.' || a.attname,
           coalesce(nullif(g.grantee, 0)::regrole::text, 'everybody'), lower(g.privilege_type), g.is_grantable
    from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace,
         aclexplode(a.attacl) g
    where n.nspname in ('public', 'lookup') and g.grantee <> c.relowner
    union all
    select 'schema', n.nspname, coalesce(nullif(g.grantee, 0)::regrole::text, 'everybody'),
           lower(g.privilege_type), g.is_grantable
    from pg_namespace n, aclexplode(n.nspacl) g where n.nspname in ('public', 'lookup') and g.privilege_type = 'CREATE'
         and g.grantee <> n.nspowner and g.grantee <> 'owner'::regrole
    union all
    select 'database', d.datname, coalesce(nullif(g.grantee, 0)::regrole::text, 'everybody'),
           lower(g.privilege_type), g.is_grantable
    from pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) g
    where d.datname = current_database() and g.grantee <> d.datdba and g.privilege_type <> 'CONNECT'
    union all
    select 'new ' || case d.defaclobjtype when 'S' then 'sequence' when 'r' then 'table' else d.defaclobjtype::text end,
           coalesce(n.nspname, 'any schema'), coalesce(nullif(g.grantee, 0)::regrole::text, 'everybody'),
           lower(g.privilege_type), g.is_grantable
    from pg_default_acl d left join pg_namespace n on n.oid = d.defaclnamespace, aclexplode(d.defaclacl) g
    where g.grantee <> d.defaclrole
"""
ROWS = {"select", "insert", "update", "delete"}


def grants(cursor: Any) -> dict[tuple[str, str], set[str]]:
    """The rights on every table and view, by (name, role)."""
    given: dict[tuple[str, str], set[str]] = {}
    for kind, name, role, right, _ in rows(cursor, GRANTS):
        if kind in ("table", "view"):
            given.setdefault((name.removeprefix("public."), role), set()).add(right)
    return given


def every_right_was_meant(cursor: Any) -> Proof:
    """Log-ins and everybody have none of their own; exempt tables have EXEMPT; people have theirs behind walls only."""
    here, found, faults = walled(cursor), rows(cursor, GRANTS), []
    exempt: dict[tuple[str, str], set[str]] = {}
    for kind, full_name, role, right, may_grant in found:
        name = full_name.removeprefix("public.")
        said = f"{role} has {right} on {kind} {name}"
        if may_grant:
            faults.append(f"{said} and may give it away")
        match kind, role:
            case "table", "app_public" | "app_door":
                exempt.setdefault((role, name), set()).add(right)
            case "table", "app_service" if right in ROWS:
                pass
            case "table", "app_lookup" if right == "select" and (
                name in LOOKED_UP or any(name in tables for tables in EXEMPT.values())
            ):
                pass
            case "table", "app_lookup" if right in CHAIN.get(name, ()):
                pass
            case "table", _ if role in TENANT and name in here and right in ROWS:
                pass
            case "view", _ if role in (*TENANT, "app_service") and right == "select":
                pass  # it shows what its reader may see: every_view_obeys_its_reader
            case (("sequence" | "new sequence"), "app_service") if right == "select":
                pass
            case "new table", "app_service" if right in ROWS:
                pass
            case _:
                faults.append(said)
    meant = {
        (role, name): set(rights.split(", ")) for role, tables in EXEMPT.items() for name, rights in tables.items()
    }
    for role, name in sorted(exempt.keys() | meant.keys()):
        wanted, has = meant.get((role, name), set()), exempt.get((role, name), set())
        if wanted != has:
            faults.append(f"{role} has {listed(has)} on {name}; EXEMPT says {listed(wanted)}")
    return Proof(
        "rights were meant: people's only behind walls, log-ins' none, the exempt list to the letter",
        len(found),
        faults,
    )


def every_function_is_known(cursor: Any) -> Proof:
    """Code that runs with its owner's rights is on a list, fixes its search path, and nobody calls it by default."""
    found = rows(
        cursor,
        """
        select n.nspname || '.' || p.proname || '(' || replace(oidvectortypes(p.proargtypes), ', ', ',') || ')',
               pg_get_userbyid(p.proowner), coalesce(array_to_string(p.proconfig, ' '), ''),
               array(select coalesce(nullif(grantee, 0)::regrole::text, 'everybody')
                     from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) where grantee <> p.proowner)
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where p.prosecdef and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
        """,
    )
    faults = []
    for name, owner, settings, callers in found:
        if name not in DEFINERS:
            faults.append(f"{name} runs with the rights of {owner} and is on no list")
        if owner != "app_lookup":
            faults.append(f"{name} belongs to {owner}, not to app_lookup")
        if settings != "search_path=pg_catalog, pg_temp":
            faults.append(f"{name} does not fix its search path")
        if callers != ["app_public"]:
            faults.append(f"{name} may be called by {listed(callers)}")
    faults += [f"there is no {name}" for name in DEFINERS - {row[0] for row in found}]
    return Proof(
        "functions look over the walls, each on the list and with a fixed search path", len(found), sorted(faults)
    )


def every_view_obeys_its_reader(cursor: Any) -> Proof:
    found = rows(
        cursor,
        """
        select c.oid::regclass::text, c.relkind::text,
               coalesce(c.reloptions, '{}') && array['security_invoker=true', 'security_invoker=on'],
               array(select rolname::text from pg_roles
                     where rolname = any(%s) and has_table_privilege(oid, c.oid, 'select'))
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('v', 'm', 'f') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
              and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
        """,
        [list(PEOPLE)],
    )
    faults = [f"the view {name} is not security_invoker" for name, kind, obeys, _ in found if kind == "v" and not obeys]
    faults += [
        f"{listed(readers)} may read {name}, which knows no walls"
        for name, kind, _, readers in found
        if kind != "v" and readers
    ]
    rules = rows(
        cursor,
        "select ev_class::regclass::text, rulename from pg_rewrite join pg_class c on c.oid = ev_class"
        " where rulename <> '_RETURN' and c.relnamespace = 'public'::regnamespace",
    )
    faults += [f"the rule {rule} rewrites what is done to {name}" for name, rule in rules]
    return Proof("views, and all of them see with their reader's eyes", len(found), faults)
