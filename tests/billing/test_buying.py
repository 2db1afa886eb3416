"""Buying as a member does it: through our pages and the stand-in for Stripe, whose news arrives by the real webhook's way."""

import re
from uuid import uuid4

import pytest

from billing import buying, lifecycle, till
from billing.models import BillingTransaction, CreditPackOffer, Plan, Subscription, SubscriptionHistory
from lib import clock
from lib.db import SERVICE, scope
from quotas.models import Pack
from tests.billing import shop
from tests.billing.test_pages import browser, read, set_plan, text_of


def token_of(response):
    return re.search(r'name="token" value="([0-9a-f-]{36})"', response.content.decode())[1]


def choose(client, plan="basic", cycle="month", token=None):
    """Press a plan's button on the pricing page. Returns where it leads."""
    token = token or token_of(client.get("/pricing/"))
    return client.post("/billing/subscribe/", {"plan": plan, "cycle": cycle, "token": token})


def buy(client, code, token=None):
    return client.post("/billing/pack/", {"pack": code, "token": token or token_of(client.get("/pricing/"))})


def come_back(client, session_id, tries=0):
    return client.get("/billing/return/", {"session_id": session_id, "try": tries})


def said_after(client, response):
    """What stands on the page that a refused form leads back to."""
    assert response.status_code == 303
    return text_of(client.get(response["Location"]))


@pytest.fixture
def offer(world):
    with scope(SERVICE):
        return CreditPackOffer.objects.filter(brand=world.act).order_by("price_microusd").first()


@pytest.fixture
def paying(world):
    """Bob, who chose Basic and paid for it."""
    client = browser(world.bob)
    shop.pay(choose(client)["Location"])
    shop.deliver()
    return client


def test_a_plan_is_chosen_paid_and_stands_on_every_page(world):
    client = browser(world.bob)

    answer = choose(client)
    session_id = shop.pay(answer["Location"])
    waiting = come_back(client, session_id)
    shop.deliver()
    done = come_back(client, session_id)

    assert answer.status_code == 303
    assert "Waiting for the payment" in text_of(waiting)
    assert waiting["Refresh"].startswith(f"2; url=/billing/return/?session_id={session_id}&try=1")
    assert "Done This is what you have now. Plan Basic" in text_of(done)
    assert "Refresh" not in done
    said = text_of(client.get("/settings/plan/"))
    assert "Basic $9.99 a month" in said
    assert "Questions today 15 of 15 left" in said
    assert "Renews on" in said
    assert "$9.99 Paid" in said
    assert "Move up to Pro" in text_of(client.get("/pricing/"))


def test_the_news_that_never_comes_is_waited_for_half_a_minute_and_then_said(world):
    client = browser(world.bob)
    session_id = shop.pay(choose(client)["Location"])

    late = come_back(client, session_id, tries=15)

    assert "This takes longer than usual" in text_of(late)
    assert "you need not pay again" in text_of(late)
    assert "Refresh" not in late


def test_a_pack_is_bought_once_however_often_its_button_is_pressed(world, offer):
    client = browser(world.bob)
    token = token_of(client.get("/pricing/"))

    first, second = buy(client, offer.code, token), buy(client, offer.code, token)
    session_id = shop.pay(first["Location"])
    shop.deliver()

    assert first["Location"] == second["Location"]
    with scope(SERVICE):
        assert Pack.objects.filter(owner_id=world.bob.pk).count() == 1
        assert BillingTransaction.objects.filter(owner_id=world.bob.pk).count() == 1
    assert f"{offer.amount} questions left" in text_of(come_back(client, session_id))
    assert "questions left" in text_of(client.get("/settings/plan/"))


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"plan": "pool"}, "cannot be bought|not on offer"),
        ({"plan": "free"}, "cannot be bought"),
        ({"plan": "basic", "cycle": "year"}, "cannot be bought"),
        ({"plan": "basic", "cycle": "century"}, "cannot be bought"),
        ({"plan": "basic", "cycle": ""}, "cannot be bought"),
        ({"plan": "nothing"}, "This plan is not on offer"),
        ({"plan": "hidden"}, "This plan is not on offer"),
        ({"plan": "elsewhere"}, "This plan is not on offer"),
        ({"plan": "' or 1=1 --"}, "This plan is not on offer"),
        ({"plan": "\x00"}, "This plan is not on offer"),
        ({"plan": "basic" * 100}, "This plan is not on offer"),
        ({"plan": "basic", "token": "guessed"}, "This page was open too long"),
        ({"plan": "basic", "token": ""}, "This page was open too long"),
        ({}, "This plan is not on offer"),
    ],
)
def test_a_tampered_form_is_refused_in_words_and_nothing_is_begun(world, form, words):
    with scope(SERVICE):
        Plan.objects.filter(brand=world.act, code="pro").update(code="hidden", is_offered=False)
        Plan.objects.filter(brand=world.globex, code="pro").update(code="elsewhere")
    set_plan(world.act, "basic", annual_price_microusd=None)
    client = browser(world.bob)

    answer = client.post("/billing/subscribe/", {"cycle": "month", "token": str(uuid4()), **form})

    assert answer["Location"] == "/pricing/"
    assert re.search(words, said_after(client, answer))
    assert "Nothing was charged" in said_after(client, client.post("/billing/subscribe/", form))
    with scope(SERVICE):
        assert not BillingTransaction.objects.exists()


def test_another_brands_pack_and_one_that_is_gone_are_not_sold_here(world, offer):
    with scope(SERVICE):
        CreditPackOffer.objects.filter(brand=world.globex, code=offer.code).update(code="elsewhere")
        CreditPackOffer.objects.filter(pk=offer.pk).update(is_active=False)
    client = browser(world.bob)

    for code in ("elsewhere", offer.code, "", "\x00"):
        assert "This pack is not on offer" in said_after(client, buy(client, code, str(uuid4()))), code


def test_nobody_comes_back_from_anothers_payment(world):
    session_id = shop.pay(choose(browser(world.bob))["Location"])
    shop.deliver()

    for client in (browser(world.alice), browser(world.charlie, host="globex.localhost")):
        answer = come_back(client, session_id)
        assert answer.status_code == 404
        assert "Basic" not in text_of(answer)
    assert come_back(browser(world.bob), "cs_guessed").status_code == 404
    assert come_back(browser(world.bob), "").status_code == 400
    assert come_back(browser(world.bob), "\x00").status_code == 400


def test_who_pays_already_changes_instead_and_sees_the_money_first(world, paying):
    again = said_after(paying, choose(paying))
    assert "You pay for Basic already." in again

    preview = paying.get("/settings/plan/change/", {"plan": "pro", "cycle": "month"})
    said = text_of(preview)

    assert "Price $29.99 a month Begins at once Charged now $" in said
    due = re.search(r"Pay (\$[\d.]+) and change to Pro", said)[1]
    form = {"plan": "pro", "cycle": "month", "token": token_of(preview)}
    answers = [paying.post("/settings/plan/change/", form) for _ in range(2)]
    shop.deliver()

    assert answers[0]["Location"] == "/settings/plan/"
    after = text_of(paying.get("/settings/plan/"))
    assert "Pro $29.99 a month" in after
    assert f"{due} Paid" in after
    assert after.count(f"{due} Paid") == 1


def test_a_smaller_plan_comes_at_the_end_of_what_is_paid(world, paying):
    preview = paying.get("/settings/plan/change/", {"plan": "pro", "cycle": "month"})
    paying.post("/settings/plan/change/", {"plan": "pro", "cycle": "month", "token": token_of(preview)})
    shop.deliver()

    preview = paying.get("/settings/plan/change/", {"plan": "basic", "cycle": "month"})
    assert "Charged now $0 Until then your plan stays as it is." in text_of(preview)
    form = {"plan": "basic", "cycle": "month", "token": token_of(preview)}
    said = said_after(paying, paying.post("/settings/plan/change/", form))

    assert "Basic begins on" in said
    shop.deliver()
    assert "Becomes Basic on" in text_of(paying.get("/settings/plan/"))


def test_cancelling_asks_why_keeps_the_words_and_can_be_taken_back(world, paying):
    page = text_of(paying.get("/settings/plan/cancel/"))
    assert "Everything stays until" in page

    unsaid = paying.post("/settings/plan/cancel/", {"comment": "Too <slow>"})
    assert unsaid.status_code == 400
    assert "Choose a reason" in text_of(unsaid)
    assert "Too &lt;slow&gt;" in unsaid.content.decode()
    assert paying.post("/settings/plan/cancel/", {"reason": "other", "comment": "x" * 1001}).status_code == 400
    assert paying.post("/settings/plan/cancel/", {"reason": "sabotage"}).status_code == 400

    said = said_after(paying, paying.post("/settings/plan/cancel/", {"reason": "too_expensive", "comment": "Too dear"}))
    assert "Your plan is cancelled for the end of its period." in said
    shop.deliver()
    assert "Ends on" in text_of(paying.get("/settings/plan/"))
    with scope(SERVICE):
        kept = SubscriptionHistory.objects.filter(owner_id=world.bob.pk).exclude(cancellation_reason="").get()
    assert (kept.cancellation_reason, kept.cancellation_comment) == ("too_expensive", "Too dear")

    said = said_after(paying, paying.post("/settings/plan/resume/"))
    assert "Your plan goes on." in said
    shop.deliver()
    assert "Renews on" in text_of(paying.get("/settings/plan/"))


def test_who_pays_for_nothing_has_nothing_to_cancel_or_resume(world):
    client = browser(world.bob)

    assert client.get("/settings/plan/cancel/").status_code == 400
    assert "no plan of yours is paid for" in said_after(client, client.post("/settings/plan/resume/"))
    assert "Cancel plan" not in read("/settings/plan/", world.bob)


def test_a_card_is_stored_and_then_extra_questions_can_be_paid(world):
    client = browser(world.alice)
    assert "Extra questions need a stored card first." in text_of(client.get("/settings/plan/"))

    answer = client.post("/billing/card/", {"token": token_of(client.get("/settings/plan/"))})
    session_id = shop.pay(answer["Location"])
    shop.deliver()

    assert "Done" in text_of(come_back(client, session_id))
    assert "Extra questions need a stored card first." not in text_of(client.get("/settings/plan/"))


def test_the_portal_is_ones_own(world, paying):
    answer = paying.post("/billing/portal/")

    assert answer.status_code == 303
    assert "/stand-in/portal/" in answer["Location"]


def test_a_payment_that_fails_later_says_until_when_the_plan_stays_and_the_way_out(world, paying):
    with scope(SERVICE):
        row = Subscription.objects.select_related("plan").get(owner_id=world.bob.pk, ended_at=None)
    facts = lifecycle.Facts(
        plan=row.plan, status="past_due", provider=row.provider, provider_subscription_id=row.provider_subscription_id,
        period_starts_at=row.period_starts_at, period_ends_at=row.period_ends_at,
    )  # fmt: skip
    lifecycle.take(world.act, world.bob.pk, facts)

    response = paying.get("/settings/plan/")

    assert "The last payment failed. Your plan stays until" in text_of(response)
    assert "Mend the payment" in text_of(response)


def test_pages_with_these_buttons_may_lead_to_stripe_and_no_other_page_may(world):
    client = browser(world.alice)
    for path, may in {"/pricing/": True, "/settings/plan/": True, "/c/": False, "/notifications/": False}.items():
        policy = client.get(path)["Content-Security-Policy"]
        assert ("https://checkout.stripe.com" in policy) == may, path


def test_nobody_keeps_the_payment_service_busy(world, offer, monkeypatch):
    """It answers the whole site only so often, so one member who asks on and on must not stop everybody's payments."""
    monkeypatch.setattr(buying, "PER_MINUTE", 3)
    now = clock.now()
    monkeypatch.setattr(buying.clock, "now", lambda: now)  # one minute, however slow this is
    client = browser(world.bob)
    assert [buy(client, offer.code, token=uuid4()).status_code for _ in range(3)] == [303] * 3

    answers = [
        buy(client, offer.code, token=uuid4()),
        choose(client, token=uuid4()),
        come_back(client, "cs_test_1"),
        client.get("/settings/plan/change/", {"plan": "basic", "cycle": "month"}),
        *(client.post(f"/{where}/", {"token": uuid4()}) for where in ("billing/card", "billing/portal")),
        *(client.post(f"/settings/plan/{where}/", {"reason": "other"}) for where in ("cancel", "resume")),
    ]

    assert {answer.status_code for answer in answers} == {429}
    assert "wait a minute" in text_of(answers[0])
    assert choose(browser(world.alice), token=uuid4()).status_code == 303, "another member goes on"


def test_what_ended_at_stripe_a_moment_ago_is_said_in_words(world, paying):
    """The news of it is still on its way: nothing breaks, and nothing is charged."""
    till.stripe().v1.subscriptions.cancel(shop.subscription_of(world.act, world.bob).provider_subscription_id)
    before = len(till.stripe().v1.charges.list(params={"limit": 100}).data)
    pro = {"plan": "pro", "cycle": "month"}

    presses = [
        lambda: paying.post("/settings/plan/cancel/", {"reason": "other"}),
        lambda: paying.get("/settings/plan/change/", pro),
        lambda: paying.post("/settings/plan/change/", {**pro, "token": uuid4()}),
    ]

    for press in presses:
        assert "knows this otherwise than this page does" in said_after(paying, press())
    assert len(till.stripe().v1.charges.list(params={"limit": 100}).data) == before
