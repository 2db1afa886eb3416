"""The audit log where it is hardest: every page of staff's writes a line, and no line changes unseen (A-19)."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from importlib import import_module

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connections, transaction
from django.forms import CheckboxInput, MultiWidget
from django.test import RequestFactory
from django.urls import reverse

from accounts import circumstances
from agents.models import Agent
from billing.models import CreditPackOffer, Plan
from chatsite import erasing
from conversations.models import BrandTemplate
from events import activity
from events.activity import chain
from events.models import Activity, ActivityHead, ActivityLink, ActivityOrigin, Alarm
from events.tasks import prove_activity
from lib.db import NOBODY, SERVICE, close_all, scope
from lib.ids import uuid7
from providers.models import Fallback, Place
from tests import factories
from tests.isolation import policy


@pytest.fixture(autouse=True)
def from_nowhere(monkeypatch):
    """A test's own lines come from no request, whatever ran in this thread before."""
    monkeypatch.setattr(circumstances, "_here", ContextVar("circumstances", default=None))


def read(queryset):
    with scope(SERVICE):
        return list(queryset)


# Every page of staff's


def rows(world):
    """A row for each of their pages on which something can be changed, and what is changed."""
    with scope(SERVICE):
        bobs = {"brand": world.act, "owner_id": world.bob.pk}
        return {
            "accounts_brand": (world.act, {"name": "Other"}),
            "accounts_membership": (world.bob.memberships.get(), {"role": "admin"}),
            "accounts_user": (world.bob, {"is_active": ""}),
            "account_emailaddress": (
                EmailAddress.objects.create(user=world.bob, email=world.bob.email), {"verified": "on"},
            ),
            "agents_agent": (
                Agent.objects.create(**bobs, slug="a", name="A", ai_model="demo", system_prompt="Be kind."),
                {"name": "Other"},
            ),
            "auth_group": (Group.objects.create(name="helpers"), {"name": "Other"}),
            "billing_creditpackoffer": (CreditPackOffer.objects.filter(brand=world.act).first(), {"name": "Other"}),
            "billing_plan": (Plan.objects.get(brand=world.act, code="pro"), {"name": "Other"}),
            "conversations_brandtemplate": (
                BrandTemplate.objects.create(brand=world.act, title="Plan", text="Plan my {day}."), {"title": "Other"},
            ),
            "providers_aiprovider": (world.demo, {"name": "Other"}),
            "providers_fallback": (Fallback.objects.create(brand=world.act, provider=world.demo), {"position": "7"}),
            "providers_place": (Place.objects.create(brand=world.act, provider=world.demo), {"position": "7"}),
            "providers_systemprompt": (world.prompt, {"prompt_text": "Be brief."}),
        }  # fmt: skip


def as_sent(context):
    """What a browser would send back of the page as it is shown."""
    forms = [context["adminform"].form]
    for inline in context["inline_admin_formsets"]:
        forms += [inline.formset.management_form, *inline.formset.forms]
    sent = {}
    for bound in (field for form in forms for field in form):
        value, widget = bound.value(), bound.field.widget
        if isinstance(widget, MultiWidget):
            parts = zip(widget.widgets, widget.decompress(value), strict=True)
            sent |= {
                f"{bound.html_name}_{number}": part.format_value(one) or "" for number, (part, one) in enumerate(parts)
            }
        elif isinstance(widget, CheckboxInput):
            sent |= {bound.html_name: "on"} if value else {}
        elif value is not None:
            sent[bound.html_name] = value
    return sent


def test_whatever_staff_change_is_one_line_with_before_and_after(world, client):
    """A-19: all pages of the policy; adding and deleting go through the same three functions."""
    client.force_login(world.staff)
    client.defaults["HTTP_HOST"] = "act.localhost"
    made = rows(world)
    assert made.keys() == {name for name, may in policy.PAGES.items() if "c" in may}
    for name, (row, changed) in made.items():
        address = reverse(f"admin:{name}_change", args=[row.pk])
        sent = {**as_sent(client.get(address).context), **changed}
        answer = client.post(address, {field: value for field, value in sent.items() if value != ""})
        assert answer.status_code == 302, (name, answer.context["errors"])
        lines = read(Activity.objects.filter(action=f"{name.partition('_')[2]}.changed"))
        assert len(lines) == 1, name
        field = next(iter(changed))
        assert lines[0].changes[field] not in (None, []), name
        assert lines[0].changes[field][0] != lines[0].changes[field][1]
        assert (lines[0].actor_id, lines[0].actor_kind) == (world.staff.pk, "staff")
        assert "bob@example.com" not in json.dumps([lines[0].description, lines[0].changes]), name
        if "d" in policy.PAGES[name]:
            client.post(reverse(f"admin:{name}_delete", args=[row.pk]), {"post": "yes"})
            (gone,) = read(Activity.objects.filter(action=f"{name.partition('_')[2]}.deleted"))
            assert gone.changes[field][1] is None, name


# The chain


def write(world, count, brand=None):
    with scope(SERVICE):
        for number in range(count):
            activity.record(
                brand, "brand.changed", actor_id=world.bob.pk, resource=("brand", brand), changes={"name": ["a", number]},
                ip_address="203.0.113.7",
            )  # fmt: skip


def proved():
    with scope(SERVICE):
        return chain.faults()


def test_twenty_who_write_at_once_make_one_chain_for_each_brand(live_world):
    """A-19: several brands in a transaction, with savepoints, and with some that are taken back."""
    brands = [*sorted([live_world.act.pk, live_world.globex.pk]), None]

    def work(_number):
        try:
            for taken_back in (False, True, False, False):
                with scope(SERVICE):
                    for brand in brands:
                        write(live_world, 1, brand)
                    transaction.set_rollback(taken_back, using="service")
        finally:
            close_all()

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(work, range(20)))

    assert proved() == []
    assert {head.pk: head.length for head in read(ActivityHead.objects.all())} == {
        brand or NOBODY: 60 for brand in brands
    }
    links = read(ActivityLink.objects.filter(chain=live_world.act.pk).order_by("number"))
    assert [link.number for link in links] == list(range(1, 61))


# Who owns the tables can do all of this, and nobody else: what is found, by the number of the line.
TAMPERING = {
    "update events_activity set description = 'other' where id = %(third)s": {("changed", 3)},
    "update events_activity set brand_id = null where id = %(third)s": {("changed", 3)},
    "update events_activity set created_at = created_at - interval '1 day' where id = %(third)s": {("changed", 3)},
    "delete from events_activity where id = %(third)s": {("removed", 3), ("origin of nothing", None)},
    "delete from events_activity where id = %(third)s; delete from events_activitylink where id = %(third)s": {
        ("gap", 4), ("changed", 4), ("origin of nothing", None),
    },
    "update events_activity a set changes = b.changes from events_activity b where (a.id, b.id) in"
    " ((%(third)s, %(fourth)s), (%(fourth)s, %(third)s))": {("changed", 3), ("changed", 4)},
    "update events_activitylink set number = number + 1 where number = 5": {("gap", 6), ("changed", 6), ("cut off", 6)},
    "alter table events_activity disable trigger link; insert into events_activity select * from jsonb_populate_record"
    "((select a from events_activity a where id = %(third)s), jsonb_build_object('id', gen_random_uuid(), 'origin', null))": {
        ("unlinked", None)
    },
    "delete from events_activity where id = %(fifth)s; delete from events_activityorigin where id = %(fifth)s;"
    "delete from events_activitylink where id = %(fifth)s": {("cut off", 4)},
    "delete from events_activityhead where length = 5": {("no head", 5)},
    "update events_activityorigin set ip_address = '198.51.100.1' where id = %(third)s": {("origin changed", None)},
    "delete from events_activityorigin where id = %(third)s": {("origin removed", None)},
}  # fmt: skip


def test_whatever_is_done_to_a_line_is_found_and_named(live_world, as_owner):
    """A-19: changed, moved, removed, exchanged, put in, cut off; by somebody who owns the tables."""
    write(live_world, 5, live_world.act.pk)
    ids = [link.pk for link in read(ActivityLink.objects.order_by("number"))]
    names = dict(zip(("third", "fourth", "fifth"), ids[2:], strict=True))
    assert proved() == []
    with as_owner() as cursor:
        for table in ("events_activity", "events_activityorigin"):
            cursor.execute(f"alter table {table} no force row level security")
        for tampering, expected in TAMPERING.items():
            cursor.execute("savepoint whole")
            cursor.execute(tampering.replace("%(", "'%(").replace(")s", ")s'") % names)
            cursor.execute("set local role app_service")
            cursor.execute(chain.PROOF, {"house": NOBODY})
            found = {(what, number) for _chain, number, _line, what in cursor.fetchall()}
            cursor.execute("rollback to savepoint whole")
            assert found == expected, tampering


def test_a_person_is_erased_and_the_chain_stays_whole(live_world):
    """Where they asked from goes, on every brand and from the house's lines; a missing one of anybody else is a fault."""
    circumstances.begin(RequestFactory().get("/", REMOTE_ADDR="203.0.113.7", headers={"user-agent": "Firefox"}))
    carol = factories.make_user("carol@example.com")
    factories.make_member(live_world.act, carol)
    live_world.bob = carol
    for brand in (live_world.act.pk, live_world.globex.pk, None):
        write(live_world, 2, brand)
    assert len(read(ActivityOrigin.objects.filter(owner_id=carol.pk))) == 6

    erasing.erase(carol, by=carol.pk)

    assert read(ActivityOrigin.objects.filter(owner_id=carol.pk)) == []
    assert len(read(Activity.objects.filter(actor=carol.pk))) == 7
    assert proved() == []


def test_the_command_names_what_is_wrong_and_holds_the_log_against_old_heads(live_world, tmp_path, capsys):
    write(live_world, 3, live_world.act.pk)
    call_command("check_activity", "--json")
    noted = capsys.readouterr().out
    (heads := tmp_path / "heads.json").write_text(noted)
    write(live_world, 2, live_world.act.pk)
    call_command("check_activity", "--against", heads)

    assert json.loads(noted)["ok"]
    assert "Proved 5 lines in 1 chains" in capsys.readouterr().out
    assert prove_activity() == 0
    anew = json.loads(noted)
    anew["heads"][0]["digest"] = "00" * 32
    heads.write_text(json.dumps(anew))
    with pytest.raises(SystemExit) as ended:
        call_command("check_activity", "--against", heads)
    assert ended.value.code == 1
    assert "act, number 3: the chain is not the one that was noted" in capsys.readouterr().out
    with connections["owner"].cursor() as cursor:
        cursor.execute("delete from events_activityhead")
    assert prove_activity() == 1
    assert read(Alarm.objects.filter(name="activity_chain"))[0].since


def test_lines_from_before_the_chain_are_linked_and_lose_what_names_a_person(live_world, as_owner):
    """As the release before wrote them: with an address beside the action. Twice is as good as once."""
    fill = import_module("events.migrations.0015_chain_old_lines")
    old = """insert into events_activity (id, brand_id, created_at, actor_id, action, resource_type, description, changes,
                                          ip_address, user_agent)
             values (%s, %s, now(), %s, 'user.changed', 'user', 'bob@example.com', '{"by": "staff"}', %s, %s)"""
    with as_owner() as cursor:
        cursor.execute("alter table events_activity disable trigger link")
        cursor.execute(fill.MAY + "set local role app_service")
        for ip, agent in (("203.0.113.7", "Firefox"), (None, "")):
            cursor.execute(old, [uuid7(), live_world.act.pk, live_world.bob.pk, ip, agent])
        for statement in (fill.MOVE, fill.NAME, fill.LINK) * 2:
            cursor.execute(statement, {"after": NOBODY, "most": 500})
        cursor.execute("select actor_kind, description, ip_address, user_agent from events_activity order by id")
        assert cursor.fetchall() == [("staff", "", None, "")] * 2
        cursor.execute("select host(ip_address), user_agent, owner_id from events_activityorigin")
        assert cursor.fetchall() == [("203.0.113.7", "Firefox", live_world.bob.pk)]
        cursor.execute(chain.PROOF, {"house": NOBODY})
        assert cursor.fetchall() == []
        cursor.execute("select length from events_activityhead")
        assert cursor.fetchall() == [(2,)]
