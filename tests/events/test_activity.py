"""The audit log: what a line says and never says, who reads it, and that nobody changes it unseen (A-19, A-16)."""

import csv
import io
import json
from contextvars import ContextVar
from datetime import timedelta

import pytest
from django.test import Client, RequestFactory

from accounts import circumstances
from accounts.models import ApiKey, Invitation
from conversations.models import Message
from events import activity
from events.activity import changes
from events.models import Activity, ActivityOrigin
from lib import clock
from lib.db import SERVICE, scope
from lib.ids import uuid7
from providers.models import ProviderKey
from tests import factories

CANARY = "sk-canary-0123456789abcdef"
HOME = {"host": "act.localhost", "user-agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}


@pytest.fixture(autouse=True)
def from_nowhere(monkeypatch):
    """A test's own lines come from no request, whatever ran in this thread before."""
    monkeypatch.setattr(circumstances, "_here", ContextVar("circumstances", default=None))


def read(queryset):
    with scope(SERVICE):
        return list(queryset)


def signed_in(user):
    client = Client(headers=HOME)
    client.force_login(user)
    return client


def text_of(response):
    return b"".join(response).decode()


# What a line says


def test_a_line_has_who_where_from_and_never_a_secret(world):
    """A-16: whatever a caller gives, in the columns and deep inside."""
    asked = RequestFactory().get("/", REMOTE_ADDR="::ffff:203.0.113.7", headers={"user-agent": f"curl {CANARY}"})
    circumstances.begin(asked)
    told = {
        "password": ["old words", "new words"],
        "features": [{"tokens": 5, "api_token": "abc"}, {"tokens": 9, "api_token": "def"}],
        "note": [None, f"call with {CANARY} or write to eve@example.com"],
    }
    with scope(factories.member(world.act, world.bob)):
        activity.record(
            world.act.pk, "own_key.changed", actor_id=world.bob.pk, resource=("own_key", None),
            description=f"{CANARY} of eve@example.com", changes=told,
        )  # fmt: skip
    (line,), (asked,) = read(Activity.objects.all()), read(ActivityOrigin.objects.all())

    assert (line.actor_id, line.actor_kind, line.brand_id) == (world.bob.pk, "member", world.act.pk)
    assert (asked.pk, asked.owner_id, asked.ip_address) == (line.pk, world.bob.pk, "203.0.113.7")
    assert line.changes["password"] == ["[hidden]", "[hidden]"]
    assert line.changes["features"] == [
        {"tokens": 5, "api_token": "[hidden]"}, {"tokens": 9, "api_token": "[hidden]"},
    ]  # fmt: skip
    whole = json.dumps([line.changes, line.description, asked.user_agent])
    assert "canary" not in whole
    assert "eve@" not in whole


def test_before_and_after_hide_what_is_secret_what_is_personal_and_what_was_said(world):
    """A-16, column by column; an empty value may be told apart from one that is there."""
    bob = {"brand": world.act, "owner_id": world.bob.pk}
    rows = {
        "password": world.bob,
        "email": world.bob,
        "key_hash": ApiKey(brand=world.act, user=world.bob, key_hash=CANARY, key_prefix="abc"),
        "token_hash": Invitation(brand=world.act, email="eve@example.com", token_hash=CANARY),
        "secret": ProviderKey(**bob, vendor="openai", secret=CANARY, last_four="cdef"),
        "content": Message(**bob, role="user", content=CANARY, conversation_id=uuid7()),
    }
    for name, row in rows.items():
        with scope(SERVICE):
            told = changes.between({}, changes.values(row))
        assert told[name] == [None, "[hidden]"]
        assert "canary" not in json.dumps(changes.plain(told))
        assert row.pk is None or str(world.bob.email) not in json.dumps(changes.plain(told))
    with scope(SERVICE):
        before = changes.values(world.bob)
        world.bob.password, world.bob.is_active = "another", False
        after = changes.values(world.bob)
    assert changes.between(before, after) == {
        "password": ["[hidden]", "[hidden]"], "is_active": [True, False],
    }  # fmt: skip


def test_who_signs_in_out_and_in_vain_is_in_the_log_and_the_person_reads_it(world):
    who = {"login": "bob@example.com", "password": factories.PASSWORD}
    client = Client(headers=HOME)
    client.post("/account/login/", who | {"password": "bobs-other-secret"})
    client.post("/account/login/", {"login": "nobody@example.com", "password": "x" * 12})
    client.post("/account/login/", who)
    page = client.get("/settings/").content.decode()
    client.post("/account/logout/")
    found = read(Activity.objects.filter(brand=world.act).order_by("id"))

    assert [(line.action, line.actor_kind, line.actor_id, line.resource_id) for line in found] == [
        ("session.refused", "nobody", None, world.bob.pk),
        ("session.refused", "nobody", None, None),
        ("session.started", "member", world.bob.pk, world.bob.pk),
        ("session.ended", "member", world.bob.pk, world.bob.pk),
    ]
    assert "bobs-other-secret" not in json.dumps([line.changes for line in found])
    assert page.index("Signed in") < page.index("A sign-in failed")
    assert "Firefox on Linux" in page


# Who reads it


@pytest.fixture
def written(world):
    """Sixty lines of alice's and bob's, one of our staff's, one of the house and one of another brand."""
    bob = factories.member(world.act, world.bob)
    for number in range(60):
        with scope(bob):
            activity.record(
                world.act.pk, "share.made", actor_id=world.bob.pk, resource=("share", uuid7()), ip_address="203.0.113.7",
                description=f'=cmd|"{number}"', changes={"days": [None, number]},
            )  # fmt: skip
    with scope(SERVICE):
        with activity.by_staff():
            activity.record(world.act.pk, "plan.changed", actor_id=world.staff.pk, resource=("plan", uuid7()))
        activity.record(None, "group.added", actor_id=world.staff.pk, resource=("group", None))
        activity.record(world.globex.pk, "share.made", actor_id=world.charlie.pk, resource=("share", None))
    return world


def test_an_admin_finds_lines_page_by_page_and_nobody_else_does(written):
    """A-19; keyset pages, every filter, one line's before and after, and what belongs to others is not there."""
    alice, bob = signed_in(written.alice), signed_in(written.bob)
    first = alice.get("/manage/activity/")
    second = alice.get(f"/manage/activity/?{first.context['more']}")
    shown = [row["line"].pk for answer in (first, second) for row in answer.context["rows"]]

    assert len(shown) == len(set(shown)) == 61
    assert shown == sorted(shown, reverse=True)
    assert second.context["more"] == ""
    assert "Our staff" in first.content.decode()
    assert "staff@example.com" not in first.content.decode()
    today = clock.now().date()
    for asked, count in [
        ("person=bob@", 50), (f"person={written.bob.pk}", 50), ("person=charlie", 0), ("action=plan.", 1),
        ("q=cmd|%227%22", 1), ("q=%25", 0), ("resource=plan", 1), (f"resource={uuid7()}", 0), (f"since={today}", 50),
        (f"until={today - timedelta(days=1)}", 0),
    ]:  # fmt: skip
        answer = alice.get(f"/manage/activity/?{asked}")
        assert (answer.status_code, len(answer.context["rows"])) == (200, count), asked
    for odd in ("since=yesterday&after=here", "since=1969-12-31", "until=0001-01-01", "until=9999-12-31"):
        assert alice.get(f"/manage/activity/?{odd}").status_code == 422, odd
    assert "No line fits" in alice.get("/manage/activity/?q=nothing").content.decode()
    line = alice.get(f"/manage/activity/{first.context['rows'][5]['line'].pk}/").content.decode()
    assert "203.0.113.7" in line
    assert "bob@example.com" in line
    (foreign,) = read(Activity.objects.filter(brand=written.globex))
    (house,) = read(Activity.objects.filter(brand=None))
    for hidden in (foreign, house):
        assert alice.get(f"/manage/activity/{hidden.pk}/").status_code == 404
    assert [bob.get(f"/manage/activity/{path}").status_code for path in ("", f"{shown[0]}/", "file/")] == [404] * 3


def test_the_log_is_taken_home_whole_and_no_spreadsheet_computes_it(written, monkeypatch):
    """F-22: in parts, with the filters, and with a line of its own."""
    monkeypatch.setattr("events.activity.export.AT_ONCE", 7)
    alice = signed_in(written.alice)
    table = alice.get("/manage/activity/file/?form=csv&action=share.made")
    rows = list(csv.DictReader(io.StringIO(text_of(table).removeprefix("\ufeff"))))
    listed = json.loads(text_of(alice.get("/manage/activity/file/?form=json&person=bob@")))

    assert table.headers["Content-Disposition"].startswith("attachment")
    assert [row["description"] for row in rows] == [f'\'=cmd|"{number}"' for number in reversed(range(60))]
    assert {row["who"] for row in rows} == {"bob@example.com"}
    assert [row["id"] for row in listed] == [row["id"] for row in rows]
    assert listed[0]["changes"] == {"days": [None, 59]}
    assert json.loads(text_of(alice.get("/manage/activity/file/?form=json&action=none"))) == []
    (one, *_) = read(Activity.objects.filter(action="activity.exported").order_by("id"))
    assert (one.actor_id, one.changes) == (written.alice.pk, {"form": "csv", "action": "share.made"})


def test_staff_read_all_of_it_and_each_row_its_history(world, client):
    client.force_login(world.staff)
    client.defaults["HTTP_HOST"] = "act.localhost"
    client.post("/admin/auth/group/add/", {"name": "helpers"})
    page = {"name": "Act", "slug": "act", "domain": "act.localhost", "zone": "UTC", "hue": 7, "chroma": "0.1"}
    page |= {"roundness": 1, "anonymous_allowance": 3, "anonymous_per_network": 9, "anonymous_per_day": 99}
    page |= {"default_plan": "free", "is_active": "on"}
    client.post(f"/admin/accounts/brand/{world.act.pk}/change/", page)
    (house,), (line,) = read(Activity.objects.filter(brand=None)), read(Activity.objects.filter(action="brand.changed"))
    history = client.get(f"/admin/accounts/brand/{world.act.pk}/history/").content.decode()

    assert (house.action, house.actor_kind, house.changes["name"]) == ("group.added", "staff", [None, "helpers"])
    assert line.changes["hue"] == [world.act.hue, 7]
    assert str(line.pk) in history
    assert str(line.pk) in client.get("/admin/").content.decode()
    shown = client.get(f"/admin/events/activity/{line.pk}/change/").content.decode()
    assert "none: run check_activity" in shown  # until it is committed
    for query in ("staff@", str(world.act.pk), "brand.changed"):
        assert "brand.changed" in client.get("/admin/events/activity/", {"q": query}).content.decode()
    assert "group.added" in client.get("/admin/events/activity/", {"brand__isempty": 1}).content.decode()
