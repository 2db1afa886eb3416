"""What staff do at the meter, through the real pages: the ledger's own functions, with a reason, a line and a name."""

import re

import pytest
from django.contrib.auth.models import Permission
from django.db import connections
from django.urls import reverse

from events.models import Activity, Alarm
from lib import clock
from lib.db import SERVICE, scope
from quotas import ledger
from quotas.models import Account, Entitlement, Entry, Pack
from tests.factories import make_user
from tests.quotas.proofs import ask, asked, balance, entitle, numbers, pack, prove

DEEDS = [
    "account_top_up",
    "account_grant_pack",
    "account_override",
    "account_clear_arrears",
    "entry_reverse",
    "pack_take_back",
]
NEEDS = {
    "account_top_up": "change_account",
    "account_grant_pack": "add_pack",
    "account_override": "add_entitlement",
    "account_clear_arrears": "change_account",
    "entry_reverse": "add_entry",
    "pack_take_back": "change_pack",
}


@pytest.fixture
def staff(world, client):
    client.force_login(world.staff)
    client.defaults["HTTP_HOST"] = "act.localhost"
    return client


@pytest.fixture
def rows(world):
    """The row of each deed: bob has a use, a pack that was half refunded after use, and owes for it."""
    ledger.settle(ask(world.act, world.bob), amounts={"queries": 1, "tokens": 640}, reason="done")
    entitle(world.act, world.bob, ("queries", "lifetime", 1))
    bought = pack(world.act, world.bob, 4, price=4_000_000)
    reservation, pocket = asked(world.act, world.bob)
    assert pocket == "pack"
    ledger.settle(reservation, amounts={"queries": 1, "tokens": 1})
    ledger.take_back_pack(bought, amount=4, reason="refund", actor_id=None)
    gift = pack(world.act, world.bob, 4)
    with scope(SERVICE):
        bobs = Account.objects.get(brand=world.act, owner_id=world.bob.pk)
        use = Entry.objects.filter(kind="use", bucket__account=bobs, bucket__pocket="plan", used_delta=1).first()
        return {
            "account_top_up": Account.objects.get(brand=world.act, kind="brand"),
            "account_grant_pack": bobs,
            "account_override": bobs,
            "account_clear_arrears": bobs,
            "entry_reverse": use,
            "pack_take_back": gift,
        }


def address(deed, row):
    return reverse(f"admin:quotas_{deed}", args=[row.pk])


def read(client, url):
    answer = client.get(url)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def hidden(page, name):
    return re.search(rf'name="{name}" value="([^"]+)"', page)[1]


def send(client, deed, row, **fields):
    return client.post(address(deed, row), fields, follow=True)


def line(**fields):
    with scope(SERVICE):
        return Entry.objects.get(**fields)


def test_a_pack_is_granted_once_however_often_its_form_is_sent(staff, world, rows):
    bobs = rows["account_grant_pack"]
    source = hidden(read(staff, address("account_grant_pack", bobs)), "source")
    wanted = {"name": "Sorry", "amount": 20, "expires_in_days": 30, "source": source, "reason": "outage"}

    for _ in range(2):
        said = send(staff, "account_grant_pack", bobs, **wanted).content.decode()

    assert "bob@example.com has Sorry: 20 questions." in said
    with scope(SERVICE):
        given = Pack.objects.select_related("bucket").get(source=source)
        assert (given.price_microusd, given.amount) == (0, 20)
        assert 29 <= (given.bucket.closes_at - clock.now()).days <= 30
    bought = line(bucket=given.bucket)
    assert (bought.limit_delta, bought.reason, bought.actor_id) == (20, "outage", world.staff.pk)
    assert asked(world.act, world.bob)[1] == "pack"
    prove(world)


def test_a_source_of_what_is_bought_cannot_be_taken_by_hand(staff, rows):
    wanted = {"name": "x", "amount": 1, "source": "checkout:cs_1", "reason": "why"}

    assert send(staff, "account_grant_pack", rows["account_grant_pack"], **wanted).status_code == 422


def test_an_override_counts_at_once_until_its_day_and_names_who_made_it(staff, world, rows):
    bobs = rows["account_override"]
    said = send(
        staff, "account_override", bobs, meter="queries", limit=50, days=7, reason="a trial week"
    ).content.decode()

    assert "bob@example.com has 50 questions until" in said
    assert "a trial week" in said
    assert numbers(world.act, world.bob.pk, "queries")[0] == 50
    with scope(SERVICE):
        made = Entitlement.objects.exclude(overrides_until=None).get()
    assert (made.limit, made.reason, made.actor_id) == (50, "a trial week", world.staff.pk)
    assert asked(world.act, world.bob)[1] == "plan"
    prove(world)


def test_what_is_owed_is_forgiven_in_part_and_in_whole(staff, world, rows):
    bobs = rows["account_clear_arrears"]
    assert "owes $1.00" in read(staff, address("account_clear_arrears", bobs))

    assert (
        "owes $0.75"
        in send(staff, "account_clear_arrears", bobs, forgiven_dollars="0.25", reason="half").content.decode()
    )
    assert send(staff, "account_clear_arrears", bobs, forgiven_dollars="2", reason="too much").status_code == 422
    assert (
        "owes $0.00"
        in send(staff, "account_clear_arrears", bobs, forgiven_dollars="0.75", reason="rest").content.decode()
    )

    assert staff.get(address("account_clear_arrears", bobs)).status_code == 404
    prove(world)


def test_a_use_is_given_back_by_another_line_once_and_the_page_says_so_first(staff, world, rows):
    use = rows["entry_reverse"]
    page = read(staff, address("entry_reverse", use))
    assert "bob@example.com gets back 1 question: of this window 0 questions will then be used, not 1 question." in page
    assert numbers(world.act, world.bob.pk, "queries", pocket="plan")[1] == 1

    for _ in range(2):
        said = send(staff, "entry_reverse", use, reason="the answer was broken").content.decode()

    assert "Now bob@example.com has back 1 question." in said
    back = line(kind="reversal", bucket_id=use.bucket_id)
    assert (back.used_delta, back.reason, back.actor_id) == (-1, "the answer was broken", world.staff.pk)
    assert line(pk=use.pk).used_delta == 1
    assert numbers(world.act, world.bob.pk, "queries", pocket="plan")[1] == 0
    prove(world)


def test_a_pack_is_taken_back_as_far_as_it_is_there(staff, world, rows):
    gift = rows["pack_take_back"]

    said = send(staff, "pack_take_back", gift, amount=3, reason="by mistake").content.decode()

    assert "3 units of 4 queries were taken back." in said
    assert balance(gift) == (1, 0, 0)
    prove(world)


@pytest.mark.parametrize("deed", DEEDS)
def test_each_deed_needs_a_reason_and_its_own_right_and_writes_the_audit_log(staff, world, rows, deed):
    """Who may see everything and do the other deeds still gets 403."""
    row, url = rows[deed], address(deed, rows[deed])
    answer = staff.post(url, {"amount": 1, "meter": "tokens", "reason": "  "})
    assert answer.status_code == 422
    assert "errorlist" in answer.content.decode()

    helper = make_user("helper@example.com", is_staff=True)
    with scope(SERVICE):
        others = set(NEEDS.values()) - {NEEDS[deed]} | {"view_account", "view_entry", "view_pack"}
        helper.user_permissions.set(Permission.objects.filter(content_type__app_label="quotas", codename__in=others))
    staff.force_login(helper)
    assert staff.get(url).status_code == staff.post(url, {"reason": "why"}).status_code == 403
    model = deed.split("_")[0]
    assert url not in read(staff, reverse(f"admin:quotas_{model}_change", args=[row.pk]))
    with scope(SERVICE):
        helper.user_permissions.add(Permission.objects.get(content_type__app_label="quotas", codename=NEEDS[deed]))
    page = read(staff, url)
    assert url in read(staff, reverse(f"admin:quotas_{model}_change", args=[row.pk]))

    fields = {
        "account_top_up": {"meter": "tokens", "amount": 1},
        "account_grant_pack": {"name": "x", "amount": 1, "source": "source" in page and "staff:1"},
        "account_override": {"meter": "queries", "limit": 1, "days": 1},
        "account_clear_arrears": {"forgiven_dollars": 1},
        "entry_reverse": {},
        "pack_take_back": {"amount": 1},
    }[deed]
    assert send(staff, deed, row, **fields, reason="because").status_code == 200
    with scope(SERVICE):
        (told,) = Activity.objects.filter(actor=helper)
    assert (told.brand_id, told.action, told.resource_id) == (world.act.pk, f"{model}.changed", row.pk)
    assert "because" in told.description
    prove(world)


def test_an_account_is_shown_as_its_member_sees_it(staff, world, rows):
    bobs = rows["account_override"]
    shown = read(staff, reverse("admin:quotas_account_change", args=[bobs.pk]))

    for words in ("May ask:", "bob@example.com", "4 of 4 queries", "Owes", "$1.00", "pack", "plan"):
        assert words in shown, words
    entitle(world.act, world.alice, ("queries", "day", 0))
    with scope(SERVICE):
        alices = Account.objects.get(brand=world.act, owner_id=world.alice.pk)
    assert "May not ask:" in read(staff, reverse("admin:quotas_account_change", args=[alices.pk]))
    found = read(staff, reverse("admin:accounts_user_change", args=[world.bob.pk]))
    link = f"{reverse('admin:quotas_account_changelist')}?q={world.bob.pk}"
    assert link in found
    assert reverse("admin:quotas_account_change", args=[bobs.pk]) in read(staff, link)


def test_the_page_of_balances_says_when_the_nightly_proof_ran(staff, world):
    """Q-33"""
    assert "has not run yet" in read(staff, reverse("admin:quotas_balances"))
    with scope(SERVICE):
        Alarm.objects.create(name="balance_drift", value=2, checked_at=clock.now(), since=clock.now())

    assert "found 2 drifts; it has found some since" in read(staff, reverse("admin:quotas_balances"))


@pytest.mark.parametrize("verb", ["update", "delete"])
@pytest.mark.django_db(transaction=True)
def test_the_database_itself_lets_nobody_change_a_line_of_the_ledger(live_world, verb):
    """Neither the web log-in, nor the worker's, nor the service: the right is not there, whatever a page would allow."""
    ledger.settle(ask(live_world.act, live_world.bob), amounts={"queries": 1, "tokens": 1})
    statement = "update quotas_entry set used_delta = 0" if verb == "update" else "delete from quotas_entry"
    with pytest.raises(Exception, match="permission denied"), scope(SERVICE):
        connections["service"].cursor().execute(statement)
    for role in ("app_user", "app_brand", "app_visitor", "app_service", "web", "worker"):
        with connections["owner"].cursor() as cursor:
            cursor.execute("select has_table_privilege(%s, 'quotas_entry', %s)", [role, verb])
            assert cursor.fetchone() == (False,)
