"""A member buys, uses, fails to pay, leaves, and gets money back: over real HTTP, from the page of the stand-in to our books.

The browser here is a plain HTTP client. The stand-in posts its events to the webhook of the same server, tasks run at once,
and nothing is handed over by the test.
"""

import re
from dataclasses import dataclass

import pytest
import requests
from django.core.management import call_command

from accounts.models import Brand, User
from billing import reports, till
from billing.models import BillingTransaction, StripeEvent
from billing.standin.models import StandInObject
from lib.db import SERVICE, scope
from lib.ids import uuid7
from quotas import ledger, proof
from quotas.models import Account, Pack
from tests.billing import shop

pytestmark = pytest.mark.django_db(transaction=True)
CSRF = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
PORTAL_ID = re.compile(r'name="id" value="(sub_[0-9a-f]+)"')


@dataclass
class Buyer:
    """Bob of act, and the server he pays at."""

    brand: Brand
    user: User
    url: str

    @property
    def port(self):
        return self.url.rpartition(":")[2]

    @property
    def origin(self):
        return f"http://act.localhost:{self.port}"

    def press(self, address, **form):
        """Open a page and send its form, as a browser does. Returns the answer to the form."""
        host = {"Host": f"act.localhost:{self.port}"}
        here = address.replace(self.origin, self.url)
        with requests.Session() as browser:
            page = browser.get(here, headers=host, timeout=30)
            assert page.status_code == 200, page.text
            token = CSRF.search(page.text)[1]
            cookie = {"Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies)}
            form = {"csrfmiddlewaretoken": token, **form}
            return browser.post(here, form, headers=host | cookie, timeout=60, allow_redirects=False)

    def pay(self, address, card="works"):
        answer = self.press(address, card=card)
        if answer.status_code == 303:
            assert answer.headers["Location"].startswith(f"{self.origin}/billing/return/?session_id=cs_test_")
        return answer.status_code

    def subscribe(self, code="basic", card="works", key="tab"):
        plan = shop.plan_of(self.brand, code)
        return self.pay(
            till.start_subscription(self.brand, self.user, plan, cycle="month", key=key, origin=self.origin), card
        )

    def stands(self):
        row = shop.subscription_of(self.brand, self.user)
        return row.plan.code, row.status

    def books(self):
        return shop.books_of(self.brand, self.user)

    def packs(self):
        with scope(SERVICE):
            rows = Pack.objects.select_related("bucket").filter(brand=self.brand, owner_id=self.user.pk)
            return [pack.bucket.left for pack in rows]

    def standin(self, *what):
        call_command("standin", *what, customer=self.user.email, verbosity=0)

    def advance(self, to="+1 month"):
        self.standin("advance", "--to", to)


@pytest.fixture
def bob(live_world, live_server, settings, capsys):
    settings.STRIPE_STAND_IN_WEBHOOK = f"{live_server.url}/stripe/webhook/"
    buyer = Buyer(live_world.act, live_world.bob, live_server.url)
    yield buyer
    with scope(SERVICE):
        told = StandInObject.objects.filter(kind="event").count()
        assert StripeEvent.objects.count() == told, "each event arrived once"
        assert not StandInObject.objects.filter(kind="event", body__pending_webhooks=1).exists()
        assert list(StripeEvent.objects.exclude(outcome__in=["applied", "ignored"]).values_list("type", "error")) == []
        assert proof.drifts() == []


def test_a_plan_is_bought_and_renews(bob):
    assert bob.subscribe() == 303
    assert bob.stands() == ("basic", "active")

    bob.advance()

    assert bob.stands() == ("basic", "active")
    assert bob.books() == [("subscription", "paid", 999)] * 2


def test_a_declined_card_buys_nothing_and_costs_nothing(bob):
    plan = shop.plan_of(bob.brand, "basic")
    page = till.start_subscription(bob.brand, bob.user, plan, cycle="month", key="tab", origin=bob.origin)

    assert bob.pay(page, "declined") == 402
    assert bob.stands()[0] == "free"
    assert bob.pay(page) == 303

    assert bob.stands() == ("basic", "active")
    assert [row for row in bob.books() if row[1] == "paid"] == [("subscription", "paid", 999)]


def test_a_pack_is_bought_once_and_refunded(bob):
    """S-14: the page that is sent twice. S-15: what the refund gives back leaves the meter."""
    offer = shop.make_offer(bob.brand)
    page = till.buy_pack(bob.brand, bob.user, offer, key="tab", origin=bob.origin)

    assert bob.pay(page) == 303
    token = requests.get(page.replace(bob.origin, bob.url), headers={"Host": f"act.localhost:{bob.port}"}, timeout=30)
    assert "This is done" in token.text
    assert bob.packs() == [200]
    with scope(SERVICE):
        row = BillingTransaction.objects.get(type="one_time")
    till.refund(row, amount_microusd=2_500_000, reason="half of it was no use", actor_id=None)
    assert bob.packs() == [100]
    till.refund(row, reason="the rest too", actor_id=None)

    assert bob.packs() == [0]
    assert [total for kind, _, total in bob.books() if kind == "refund"] == [-250, -250]


def test_a_pack_that_is_disputed_leaves_the_meter_and_comes_back_when_it_is_won(bob):
    """S-15."""
    bob.pay(till.buy_pack(bob.brand, bob.user, shop.make_offer(bob.brand), key="tab", origin=bob.origin))

    bob.standin("dispute")
    assert bob.packs() == [0]
    bob.standin("win")

    assert sum(bob.packs()) == 200


def test_a_bank_that_needs_a_moment_gives_when_the_money_is_there(bob):
    page = till.buy_pack(bob.brand, bob.user, shop.make_offer(bob.brand), key="tab", origin=bob.origin)
    assert bob.pay(page, "slow") == 303
    assert bob.packs() == []

    bob.standin("arrive")

    assert bob.packs() == [200]


def test_questions_beyond_the_plan_are_on_the_next_invoice(bob):
    """Q-19: what the ledger posted is what is charged, to the cent."""
    bob.subscribe("basic")
    with scope(SERVICE):
        ledger.set_overage(bob.brand, bob.user.pk, on=True, cap_microusd=None, actor_id=bob.user.pk)
        pockets = []
        for _ in range(20):
            reservation = uuid7()
            pockets.append(
                ledger.reserve(bob.brand, asker=("user", bob.user.pk), amounts={"queries": 1}, reservation=reservation)
            )
            ledger.settle(reservation, amounts={"queries": 1})
    assert pockets == ["plan"] * 15 + ["overage"] * 5

    assert reports.report() == {"collected": 5, "sent": 5, "failed": 0}
    assert reports.report() == {"collected": 0, "sent": 0, "failed": 0}
    with scope(SERVICE):
        assert proof.drifts() == []
    bob.advance()

    # 5 questions at 2.5 cents are 12.5 cents, which Stripe rounds up to 13.
    assert sorted((kind, total) for kind, _, total in bob.books()) == [
        ("overage", 13),
        ("subscription", 999),
        ("subscription", 999),
    ]
    with scope(SERVICE):
        (invoice,) = StandInObject.objects.filter(kind="invoice", body__billing_reason="subscription_cycle")
        assert invoice.body["total"] == 1012


def test_a_renewal_that_fails_is_past_due_until_another_card_pays(bob):
    """S-13."""
    bob.subscribe(card="fails-later")
    bob.advance()
    assert bob.stands() == ("basic", "past_due")
    with scope(SERVICE):
        features = Account.objects.get(brand=bob.brand, kind="user", owner_id=bob.user.pk).features
    assert features["overage_allowed"] is False

    bob.press(till.portal(bob.brand, bob.user, origin=bob.origin), do="card", card="works")

    assert bob.stands() == ("basic", "active")
    assert bob.books()[-1][1] == "paid"


def test_a_renewal_that_nobody_ever_pays_ends_the_plan(bob):
    bob.subscribe(card="fails-later")

    bob.advance()
    bob.advance("+20 days")

    assert bob.stands()[0] == "free"


def test_a_plan_that_is_cancelled_lasts_to_the_end_of_what_was_paid(bob):
    bob.subscribe()

    till.cancel(bob.brand, bob.user, reason="too_expensive", comment="Sorry")
    row = shop.subscription_of(bob.brand, bob.user)
    assert (row.plan.code, row.cancel_at_period_end) == ("basic", True)
    till.resume(bob.brand, bob.user)
    assert shop.subscription_of(bob.brand, bob.user).cancel_at_period_end is False
    portal = till.portal(bob.brand, bob.user, origin=bob.origin)
    page = requests.get(
        portal.replace(bob.origin, bob.url), headers={"Host": f"act.localhost:{bob.port}"}, timeout=30
    ).text
    bob.press(portal, do="cancel", id=PORTAL_ID.search(page)[1])
    assert shop.subscription_of(bob.brand, bob.user).cancel_at_period_end is True
    bob.advance()

    assert bob.stands()[0] == "free"
    assert bob.books() == [("subscription", "paid", 999)]


def test_an_upgrade_is_charged_at_once(bob):
    bob.subscribe()

    till.change_plan(bob.brand, bob.user, shop.plan_of(bob.brand, "pro"), cycle="month", key="up")

    assert bob.stands() == ("pro", "active")
    assert sum(total for *_, total in bob.books()) == 2999, "all of the period is left, so all of the difference is due"
