"""Packs bought, refunded, disputed: what is in the meter is what was paid for and kept."""

import itertools

import pytest
from django.db import transaction

from billing import applying, price_list, till, webhooks
from billing.errors import NotForSale
from billing.models import BillingTransaction, CreditPackOffer
from billing.standin import payments, renewals, store
from lib.db import SERVICE, scope
from lib.errors import Invalid
from lib.ids import uuid7
from quotas import ledger
from quotas.models import Account, Entry, Pack
from tests.billing import shop

pytestmark = pytest.mark.django_db


def packs(brand, user):
    """What is left in each pack of the member, in the order in which they came."""
    with scope(SERVICE):
        rows = Pack.objects.select_related("bucket").filter(brand=brand, owner_id=user.pk).order_by("created_at", "pk")
        return [pack.bucket.left for pack in rows]


def arrears(brand, user):
    with scope(SERVICE):
        return Account.objects.get(brand=brand, kind="user", owner_id=user.pk).arrears_microusd


def use(brand, user, units):
    """Settle `units` questions from the member's pack; the plan's are used up before."""
    with scope(SERVICE):
        pack = Pack.objects.select_related("bucket").filter(brand=brand, owner_id=user.pk).first()
        for _ in range(units):
            reservation = uuid7()
            assert ledger.reserve(brand, asker=("user", user.pk), amounts={"queries": 1}, reservation=reservation) in (
                "plan",
                "pack",
            )
            ledger.settle(reservation, amounts={"queries": 1})
    return pack


def bought(brand, user):
    with scope(SERVICE):
        return BillingTransaction.objects.get(brand=brand, owner_id=user.pk, type="one_time")


def charge_of(row):
    return till.stripe().v1.payment_intents.retrieve(row.payment_id).latest_charge


def dispute(row):
    charge = charge_of(row)
    with store.changing():
        return payments.dispute(store.find("charge", charge)).pk


def decide(dispute_id, *, won):
    with store.changing():
        payments.decide_dispute(store.find("dispute", dispute_id), won=won)


def test_a_pack_that_is_paid_for_is_in_the_meter_with_its_end(world):
    offer = shop.make_offer(world.act, expires_after_days=90)

    session = shop.buy(world.act, world.bob, offer)
    assert till.outcome(world.act, world.bob, session) == "waiting"
    assert packs(world.act, world.bob) == []
    shop.deliver()

    assert till.outcome(world.act, world.bob, session) == "done"
    assert packs(world.act, world.bob) == [200]
    row = bought(world.act, world.bob)
    assert (row.status, row.amount_microusd, row.total_amount_microusd) == ("paid", 5_000_000, 5_000_000)
    assert (row.description, row.payment_method, row.currency) == ("200 questions", "visa 4242", "USD")
    assert row.invoice_number
    assert row.invoice_url
    with scope(SERVICE):
        pack = Pack.objects.select_related("bucket").get()
        assert (pack.bucket.closes_at - row.happened_at).days == 90


def test_what_was_offered_when_it_was_paid_is_what_is_given(world):
    offer = shop.make_offer(world.act)
    url = till.buy_pack(world.act, world.bob, offer, key="tab", origin=shop.ORIGIN)
    with scope(SERVICE):
        CreditPackOffer.objects.filter(pk=offer.pk).update(amount=10, is_active=False)

    shop.pay(url)
    shop.deliver()

    assert packs(world.act, world.bob) == [200]
    shop.again(offer)
    with pytest.raises(NotForSale):
        shop.buy(world.act, world.bob, offer, key="more")


def test_a_bank_that_needs_a_moment_gives_the_pack_when_the_money_is_there(world):
    session = shop.buy(world.act, world.bob, shop.make_offer(world.act), card="slow")
    shop.deliver()
    assert packs(world.act, world.bob) == []
    assert shop.books_of(world.act, world.bob) == []
    with store.changing():
        intent = store.find("checkout.session", session).body["payment_intent"]
        renewals.arrive(store.find("payment_intent", intent))

    shop.deliver()

    assert packs(world.act, world.bob) == [200]
    assert shop.books_of(world.act, world.bob) == [("one_time", "paid", 500)]


def test_two_pages_for_one_pack_are_one_pack(world):
    """S-14: the older page is closed; the same form sent twice is the same page."""
    offer = shop.make_offer(world.act)
    first, again, second = (
        till.buy_pack(world.act, world.bob, offer, key=key, origin=shop.ORIGIN) for key in ("1", "1", "2")
    )

    assert first == again
    assert till.outcome(world.act, world.bob, shop.session_of(first)) == "failed"
    shop.pay(second)
    shop.pay(second)  # the button of Stripe's page, twice
    shop.deliver([*shop.news(), *shop.news()], shuffled=1)
    assert packs(world.act, world.bob) == [200]
    assert shop.books_of(world.act, world.bob) == [("one_time", "paid", 500)]

    shop.buy(world.act, world.bob, offer, key="3")
    shop.deliver()
    assert packs(world.act, world.bob) == [200, 200], "who buys another one later gets another one"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_payments_for_one_pack_are_one_pack_and_a_refund(world, order):
    """S-14: both pages were paid before either could be closed."""
    offer = shop.make_offer(world.act)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(till, "_close_older", lambda *_: None)
        urls = [till.buy_pack(world.act, world.bob, offer, key=key, origin=shop.ORIGIN) for key in "12"]
    backdate(urls)
    sessions = [shop.pay(url) for url in urls]
    told = {event["data"]["object"]["id"]: event for event in shop.news() if event["type"].startswith("checkout")}

    shop.deliver(told[sessions[number]] for number in order)
    shop.deliver()

    assert packs(world.act, world.bob) == [200]
    assert sorted(shop.books_of(world.act, world.bob)) == [
        ("one_time", "paid", 500),
        ("one_time", "refunded", 500),
        ("refund", "paid", -500),
    ]


def test_who_dies_after_the_event_was_closed_has_asked_for_the_refund_before(world):
    """S-14: a rolled-back test runs nothing that waits for a commit, as a worker that was killed there."""
    offer = shop.make_offer(world.act)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(till, "_close_older", lambda *_: None)
        urls = [till.buy_pack(world.act, world.bob, offer, key=key, origin=shop.ORIGIN) for key in "12"]
    backdate(urls)
    sessions = [shop.pay(url) for url in urls]
    told = {event["data"]["object"]["id"]: event for event in shop.news() if event["type"].startswith("checkout")}
    for session in sessions:
        webhooks.store(told[session])
        assert applying.apply_event(told[session]["id"]) == "applied"

    (refund,) = till.stripe().v1.refunds.list().data
    assert refund.amount == 500


def backdate(urls):
    """Both pages are a minute old: Stripe's clock counts whole seconds."""
    with store.changing():
        for url in urls:
            row = store.find("checkout.session", shop.session_of(url))
            row.body = {**row.body, "created": row.body["created"] - 60}
            row.save()


@pytest.mark.parametrize(("cents", "left"), [(None, 0), (250, 100), (1, 200), (499, 1)])
def test_a_refund_takes_back_in_proportion(world, cents, left):
    """S-15. A cent of 500 is less than a question; what is taken is rounded in the member's favour."""
    shop.buy(world.act, world.bob, shop.make_offer(world.act))
    shop.deliver()
    row = bought(world.act, world.bob)

    till.refund(row, amount_microusd=cents and cents * 10_000, reason="asked for it", actor_id=world.staff.pk)
    shop.deliver()
    shop.deliver([event for event in shop.news() if "refund" in event["type"]])

    assert packs(world.act, world.bob) == [left]
    assert arrears(world.act, world.bob) == 0
    with scope(SERVICE):
        back = BillingTransaction.objects.get(type="refund")
        assert (back.reason, back.actor_id) == ("asked for it", world.staff.pk)
    shop.again(row)
    assert row.status == ("refunded" if cents is None else "paid")


def test_partial_refunds_add_up_to_the_whole(world):
    """S-15: three thirds of a pack are the pack, however they are rounded."""
    shop.buy(world.act, world.bob, shop.make_offer(world.act, amount=100))
    shop.deliver()
    row = bought(world.act, world.bob)
    for cents, left in ((167, 67), (167, 34), (166, 0)):
        till.refund(row, amount_microusd=cents * 10_000, reason="a part", actor_id=None)
        shop.deliver()
        assert packs(world.act, world.bob) == [left]
    for wrong in (None, 10_000, -1):
        with pytest.raises(Invalid):
            till.refund(row, amount_microusd=wrong, reason="more", actor_id=None)
    with pytest.raises(Invalid, match="reason"):
        till.refund(row, amount_microusd=10_000, reason=" ", actor_id=None)


def test_a_refund_after_use_takes_what_is_left_and_the_rest_is_owed(world):
    """Q-19: by reversal entries only; the pack is never negative, and what was asked stays asked."""
    shop.buy(world.act, world.bob, shop.make_offer(world.act, amount=20, price_microusd=5_000_000))
    shop.deliver()
    use(world.act, world.bob, 10 + 8)  # the free plan's ten, then eight of the pack
    with scope(SERVICE):
        used = set(Entry.objects.filter(kind="use").values_list("pk", "used_delta"))

    till.refund(bought(world.act, world.bob), reason="asked for it", actor_id=None)
    shop.deliver()

    assert packs(world.act, world.bob) == [0]
    assert arrears(world.act, world.bob) == 8 * 250_000
    with scope(SERVICE):
        assert used <= set(Entry.objects.values_list("pk", "used_delta"))


TOLD = ("charge.dispute.created", "charge.dispute.funds_withdrawn", "charge.dispute.closed")


@pytest.mark.parametrize("won", [True, False], ids=["won", "lost"])
def test_a_dispute_takes_at_once_and_a_won_one_gives_back(world, won):
    """S-15, the table of docs/billing.md; what is given back is a pack like the first, what was owed is forgiven."""
    shop.buy(world.act, world.bob, shop.make_offer(world.act, amount=20))
    shop.deliver()
    use(world.act, world.bob, 10 + 8)
    row = bought(world.act, world.bob)

    its_id = dispute(row)
    shop.deliver()
    shop.again(row)
    assert (row.status, packs(world.act, world.bob), arrears(world.act, world.bob)) == ("disputed", [0], 2_000_000)
    decide(its_id, won=won)
    shop.deliver()

    shop.again(row)
    if won:
        assert (row.status, sum(packs(world.act, world.bob)), arrears(world.act, world.bob)) == ("paid", 12, 0)
    else:
        assert (row.status, packs(world.act, world.bob), arrears(world.act, world.bob)) == ("disputed", [0], 2_000_000)


def test_the_news_of_a_refund_and_a_dispute_may_come_in_any_order(world):
    """S-15: also before the news of the purchase."""
    shop.buy(world.act, world.bob, shop.make_offer(world.act))
    events = shop.news()
    first = [event for event in events if event["type"] == "checkout.session.completed"]
    session = till.stripe().v1.checkout.sessions.retrieve(first[0]["data"]["object"]["id"])
    till.stripe().v1.refunds.create(params={"payment_intent": session.payment_intent, "amount": 100})
    charge = till.stripe().v1.payment_intents.retrieve(session.payment_intent).latest_charge
    with store.changing():
        decide_id = payments.dispute(store.find("charge", charge)).pk
    decide(decide_id, won=True)
    wanted = ["charge.refunded", "charge.dispute.created", "charge.dispute.closed"]
    told = {event["type"]: event for event in shop.news()}
    ends = set()
    for order in itertools.permutations([*(told[name] for name in wanted), *first]):
        before = transaction.savepoint("service")
        shop.deliver(order)
        ends.add((tuple(packs(world.act, world.bob)), tuple(shop.books_of(world.act, world.bob))))
        transaction.savepoint_rollback(before, "service")

    assert ends == {((160,), (("one_time", "paid", 500), ("refund", "paid", -100), ("refund", "void", -400)))}


def test_what_was_not_sold_by_us_is_set_aside(world):
    """S-08: another sum, another brand's; nothing is granted and staff see it."""
    session_id = shop.buy(world.act, world.bob, shop.make_offer(world.act))
    with store.changing():
        row = store.find("checkout.session", session_id)
        row.body = {**row.body, "amount_subtotal": 1}
        row.save()

    shop.deliver()

    assert packs(world.act, world.bob) == []
    assert "another sum" in shop.parked()["checkout.session.completed"]


def test_nobody_pays_another_sum_than_the_page_says(world, settings, monkeypatch):
    """Staff changed a price and stripe_sync has not run: Stripe would take the old sum, for which nothing is granted."""
    offer = shop.make_offer(world.act)
    shop.buy(world.act, world.bob, offer)
    with scope(SERVICE):
        CreditPackOffer.objects.filter(pk=offer.pk).update(price_microusd=6_000_000)
        offer.refresh_from_db()
    monkeypatch.setattr(price_list, "is_stand_in", lambda: False)  # which follows by itself

    with pytest.raises(NotForSale, match="stripe_sync is due"):
        till.buy_pack(world.act, world.bob, offer, key="later", origin=shop.ORIGIN)

    price_list.sync(world.act, apply=True)
    shop.buy(world.act, world.bob, offer, key="after")
    shop.deliver()
    assert shop.parked() == {}
    assert packs(world.act, world.bob) == [200, 200]


def test_the_stand_in_follows_a_new_price_by_itself(world):
    offer = shop.make_offer(world.act)
    shop.buy(world.act, world.bob, offer)
    with scope(SERVICE):
        CreditPackOffer.objects.filter(pk=offer.pk).update(price_microusd=6_000_000)
        offer.refresh_from_db()

    shop.buy(world.act, world.bob, offer, key="later")
    shop.deliver()

    assert (shop.parked(), packs(world.act, world.bob)) == ({}, [200, 200])


def test_two_packs_bought_one_after_the_other_are_two_in_any_order_of_their_news(world):
    """S-04, S-14: the second page was opened when the first was paid, so both were meant."""
    offer = shop.make_offer(world.act)
    sessions = []
    for key, opened, paid in (("1", 120, 100), ("2", 60, 0)):
        url = till.buy_pack(world.act, world.bob, offer, key=key, origin=shop.ORIGIN)
        sessions.append(shop.pay(url))
        with store.changing():
            session = store.find("checkout.session", sessions[-1])
            charge = store.find(
                "charge", store.find("payment_intent", session.body["payment_intent"]).body["latest_charge"]
            )
            store.change(session, created=session.body["created"] - opened)
            store.change(charge, created=charge.body["created"] - paid)
    told = {event["data"]["object"]["id"]: event for event in shop.news() if event["type"].startswith("checkout")}

    shop.deliver(told[session] for session in sessions[::-1])
    shop.deliver()

    assert packs(world.act, world.bob) == [200, 200]
    assert shop.books_of(world.act, world.bob) == [("one_time", "paid", 500)] * 2


def test_a_refund_that_failed_gives_back_and_the_next_one_takes_again(world):
    """S-15: whoever has the money at last has not the pack, and the second try is no echo of the first."""
    shop.buy(world.act, world.bob, shop.make_offer(world.act))
    shop.deliver()
    row = bought(world.act, world.bob)
    for tries in (1, 2):
        till.refund(row, reason="asked for it", actor_id=None)
        shop.deliver()
        assert sum(packs(world.act, world.bob)) == 0, f"refund {tries}"
        refund = till.stripe().v1.refunds.list(params={"payment_intent": row.payment_id}).data[0]
        charge = charge_of(row)
        with store.changing():
            store.change(store.find("charge", charge), amount_refunded=0, refunded=False)
            store.change(store.find("refund", refund.id), "refund.failed", status="failed")
        shop.deliver()
        assert sum(packs(world.act, world.bob)) == 200

    till.refund(row, reason="asked for it", actor_id=None)
    shop.deliver()

    assert sum(packs(world.act, world.bob)) == arrears(world.act, world.bob) == 0
    shop.again(row)
    assert row.status == "refunded"
