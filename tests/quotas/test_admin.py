"""Staff's pages of the meter: everything can be read, nothing can be changed, and a top-up is the ledger's own."""

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from events.models import Activity
from lib.db import SERVICE, scope
from quotas import ledger
from quotas.models import Account, Bucket, Entry, Hold
from tests.factories import make_member, make_user
from tests.quotas.proofs import ask, bucket, numbers, prove

POOL = 2_000_000
LISTS = ["account", "bucket", "hold", "entry"]


@pytest.fixture
def staff(world, client):
    client.force_login(world.staff)
    client.defaults["HTTP_HOST"] = "act.localhost"
    return client


@pytest.fixture
def spent(world):
    ledger.settle(ask(world.act, world.bob), amounts={"queries": 1, "tokens": 640}, cost_microusd=1_234, reason="done")
    ask(world.act, world.alice)
    return world


def account_of(owner_id):
    with scope(SERVICE):
        return Account.objects.get(owner_id=owner_id)


def page(client, name, *args, **query):
    response = client.get(reverse(f"admin:quotas_{name}", args=args), query)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize("name", LISTS)
def test_each_list_asks_no_more_for_twenty_rows_than_for_two(staff, spent, name):
    def questions():
        with CaptureQueriesContext(connections["service"]) as seen:
            page(staff, f"{name}_changelist")
        return len(seen)

    before = questions()
    for number in range(10):
        user = make_user(f"member{number}@example.com")
        make_member(spent.act, user)
        ledger.settle(ask(spent.act, user), amounts={"queries": 1, "tokens": 1})
        ask(spent.act, user)

    assert questions() <= before


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_searched_by_address_and_by_owner(staff, spent, name):
    for term in ("bob@example.com", str(spent.bob.pk)):
        found = page(staff, f"{name}_changelist", q=term)
        assert "alice@example.com" not in found
        assert ("bob@example.com" in found.replace(f'value="{term}"', "")) == (name != "hold")  # bob's is settled
    for term in ("x'\"--", "@", "\x00"):
        staff.get(reverse(f"admin:quotas_{name}_changelist"), {"q": term})


def test_an_account_shows_its_limits_buckets_holds_and_last_lines(staff, spent):
    shown = page(staff, "account_change", account_of(spent.act.pk).pk)

    for words in ("2,000,000", "640", "1,000", "1,998,360", "$0.001234", "done", "window opened", "Top up"):
        assert words in shown, words
    shown = page(staff, "account_change", account_of(spent.bob.pk).pk)
    assert "bob@example.com" in shown
    assert "Top up" not in shown


@pytest.mark.parametrize("model", [Account, Bucket, Hold, Entry])
def test_nothing_is_added_changed_or_deleted_by_hand(staff, spent, model):
    with scope(SERVICE):
        row = model.objects.first()
    name = model._meta.model_name

    assert staff.get(reverse(f"admin:quotas_{name}_add")).status_code == 403
    assert staff.post(reverse(f"admin:quotas_{name}_change", args=[row.pk]), {"limit": 9}).status_code == 403
    assert staff.post(reverse(f"admin:quotas_{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    prove(spent)


def test_a_top_up_goes_through_the_ledger_with_the_name_of_who_did_it(staff, spent):
    account = account_of(spent.act.pk)
    url = reverse("admin:quotas_account_top_up", args=[account.pk])
    assert "tokens per month" in staff.get(url).content.decode()

    response = staff.post(url, {"meter": "tokens", "amount": 500, "reason": "goodwill"}, follow=True)

    assert "Act now has 1,998,860 tokens left." in response.content.decode()
    assert numbers(spent.act, spent.act.pk, "tokens") == (POOL + 500, 640, 1000)
    with scope(SERVICE):
        entry = Entry.objects.get(kind="top_up")
        assert (entry.limit_delta, entry.reason, entry.actor_id) == (500, "goodwill", spent.staff.pk)
        assert Activity.objects.filter(brand=spent.act, actor=spent.staff, action="account.changed").count() == 1
    prove(spent)


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 0},
        {"amount": -5},
        {"amount": "1e3"},
        {"amount": 10**19},
        {"reason": " "},
        {"meter": "queries"},
        {"reason": "\x00"},
    ],
)
def test_a_top_up_that_makes_no_sense_is_shown_again_with_its_fault(staff, spent, wrong):
    url = reverse("admin:quotas_account_top_up", args=[account_of(spent.act.pk).pk])

    response = staff.post(url, {"meter": "tokens", "amount": 5, "reason": "why", **wrong})

    assert response.status_code == 422
    assert "errorlist" in response.content.decode()
    assert bucket(spent.act, spent.act.pk, "tokens").limit == POOL


def test_a_member_has_nothing_to_top_up_and_staff_without_the_right_may_not(staff, spent, client):
    bobs = reverse("admin:quotas_account_top_up", args=[account_of(spent.bob.pk).pk])
    assert staff.get(bobs).status_code == 404

    helper = make_user("helper@example.com", is_staff=True)
    client.force_login(helper)
    brands = reverse("admin:quotas_account_top_up", args=[account_of(spent.act.pk).pk])
    assert client.post(brands, {"meter": "tokens", "amount": 5, "reason": "why"}).status_code == 403
    assert client.get(reverse("admin:quotas_balances")).status_code == 403
    client.force_login(spent.alice)
    assert client.get(brands).status_code == 302


def test_the_page_of_balances_says_what_was_proved(staff, spent):
    shown = page(staff, "balances")

    assert "3 buckets and 0 packs against 5 entries and 2 open holds" in shown
    assert "Every balance is the sum of its lines." in shown
    assert reverse("admin:quotas_balances") in page(staff, "bucket_changelist")


def test_the_page_of_balances_names_what_drifted(staff, spent):
    """Q-33"""
    wrong = bucket(spent.act, spent.act.pk, "tokens")
    with scope(SERVICE):
        Bucket.objects.filter(pk=wrong.pk).update(used=641)

    shown = page(staff, "balances")

    assert "1 drifted" in shown
    assert reverse("admin:quotas_bucket_change", args=[wrong.pk]) in shown
