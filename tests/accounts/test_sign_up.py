"""Signing up through the pages: account, membership and plan at once, and nothing a stranger could learn."""

import re
from urllib.parse import urlsplit

import pytest
from django.db import DatabaseError
from django.test import Client

from accounts import brands
from accounts.models import Brand, Membership, Profile, User
from billing.models import Plan, PlanLimit
from lib.db import SERVICE, scope
from quotas.models import Account, Entitlement
from tests import factories
from tests.post import arrived

DORA = {"email": "dora@example.com", "password1": "a-long-password"}
LINK = re.compile(r"http://\S+")


@pytest.fixture
def mandatory(settings):
    """As in production: nobody is signed in before the address is confirmed."""
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"


def browser(host="act.localhost"):
    return Client(headers={"host": host})


def read(queryset):
    with scope(SERVICE):
        return list(queryset)


def change(brand, **fields):
    with scope(SERVICE):
        Brand.objects.filter(pk=brand.pk).update(**fields)
    brands.forget()


def seen(answer):
    """What a stranger sees, without what differs between any two requests."""
    text = re.sub(
        r'name="csrfmiddlewaretoken" value="\w+"|nonce="[^"]+"|X-CSRFToken":"\w+"', "", answer.content.decode()
    )
    return answer.status_code, answer.headers.get("Location"), text


def test_signing_up_makes_a_member_with_the_default_plan_and_sends_a_mail(world):
    dora = browser()

    answer = dora.post("/account/signup/", {**DORA, "email": "Dora@Example.com"}, follow=True)

    assert answer.status_code == 200
    assert answer.request["PATH_INFO"] == "/c/"
    user = User.objects.get(email="dora@example.com")
    assert user.is_staff is user.is_superuser is False
    assert read(Profile.objects.filter(user=user))
    assert [(row.brand_id, row.role) for row in read(Membership.objects.filter(user=user))] == [
        (world.act.pk, "member")
    ]
    account = read(Account.objects.filter(owner_id=user.pk))[0]
    entitled = read(Entitlement.objects.filter(account=account, meter="queries"))[0]
    assert (account.plan_code, entitled.limit, entitled.window) == ("free", 10, "lifetime")
    assert [message.to for message in arrived()] == [["dora@example.com"]]
    assert "Act" in arrived()[0].body
    assert LINK.findall(arrived()[0].body)[0].startswith("http://act.localhost/account/confirm-email/")


def test_what_a_form_says_beside_address_and_password_counts_for_nothing(world):
    """I-06"""
    extra = {
        "is_staff": "on", "is_superuser": "1", "role": "owner", "brand": str(world.globex.pk), "plan": "pro",
        "id": str(world.bob.pk), "verified": "on", "is_active": "",
    }  # fmt: skip

    browser().post("/account/signup/", {**DORA, **extra})

    user = User.objects.get(email="dora@example.com")
    assert (user.is_staff, user.is_superuser, user.is_active) == (False, False, True)
    assert user.pk != world.bob.pk
    assert [(row.brand_id, row.role) for row in read(Membership.objects.filter(user=user))] == [
        (world.act.pk, "member")
    ]
    assert read(Account.objects.filter(owner_id=user.pk))[0].plan_code == "free"
    assert not user.emailaddress_set.get().verified


@pytest.mark.django_db(transaction=True)
def test_a_failure_in_the_middle_leaves_no_half_member(live_world):
    """The database refuses the last row of the plan: account, profile and membership must go with it."""
    from django.db import connections

    with connections["owner"].cursor() as cursor:
        cursor.execute("alter table quotas_entitlement add constraint broken check (meter <> 'queries') not valid")
    try:
        with pytest.raises(DatabaseError):
            browser().post("/account/signup/", DORA)
    finally:
        with connections["owner"].cursor() as cursor:
            cursor.execute("alter table quotas_entitlement drop constraint broken")

    assert not User.objects.filter(email=DORA["email"]).exists()
    assert len(read(Membership.objects.all())) == len(read(Profile.objects.all())) - 1 == 3  # staff is no member
    assert not arrived()
    assert browser().post("/account/signup/", DORA).status_code == 302


def test_a_brand_without_its_default_plan_still_takes_members(world):
    change(world.act, default_plan="gone")

    assert browser().post("/account/signup/", DORA).status_code == 302
    assert not read(Account.objects.filter(owner_id=User.objects.get(email=DORA["email"]).pk))


def test_a_known_and_an_unknown_address_get_the_same_answer(world, mandatory):
    """A-01: status, body, cookies and number of mails."""
    strangers = {"unknown": "new@example.com", "known": "alice@example.com", "other case": "ALICE@example.com"}
    answers, pages, cookies, mails = {}, {}, {}, {}
    for name, email in strangers.items():
        arrived().clear()
        stranger = browser()
        answers[name] = seen(stranger.post("/account/signup/", {**DORA, "email": email}))
        status, where, text = seen(stranger.get(answers[name][1]))
        pages[name] = status, where, text.replace(email.lower(), "the address that was typed")
        cookies[name] = set(stranger.cookies)
        mails[name] = [message.to for message in arrived()]

    assert answers["known"] == answers["unknown"] == answers["other case"]
    assert answers["known"][:2] == (302, "/account/confirm-email/")
    assert pages["known"] == pages["unknown"] == pages["other case"]
    assert cookies["known"] == cookies["unknown"]
    assert mails == {
        "unknown": [["new@example.com"]], "known": [["alice@example.com"]], "other case": [["alice@example.com"]]
    }  # fmt: skip


def test_in_development_a_known_address_is_told_what_to_do(world):
    answer = browser("globex.localhost").post("/account/signup/", {**DORA, "email": "bob@example.com"})

    assert "Sign in with it" in answer.content.decode()


def test_signing_up_twice_gives_no_second_account_and_keeps_the_password(world, mandatory):
    before = User.objects.get(email="alice@example.com").password

    browser().post("/account/signup/", {**DORA, "email": "alice@example.com", "password1": "another-long-one"})

    assert User.objects.filter(email__iexact="alice@example.com").count() == 1
    assert User.objects.get(email="alice@example.com").password == before


def test_nobody_is_in_before_the_address_is_confirmed_where_that_is_asked(world, mandatory):
    dora = browser()
    dora.post("/account/signup/", DORA)
    assert dora.get("/c/").status_code == 302
    link = LINK.findall(arrived()[0].body)[0]

    confirmed = dora.post(link.removeprefix("http://act.localhost"))

    assert confirmed.status_code == 302
    assert User.objects.get(email=DORA["email"]).emailaddress_set.get().verified
    signed_in = browser()
    signed_in.post("/account/login/", {"login": DORA["email"], "password": DORA["password1"]})
    assert signed_in.get("/c/").status_code == 200


def test_the_second_brand_says_check_your_mail_and_the_mail_offers_to_join(world, mandatory):
    """A-01, DESIGN 2"""
    stranger = browser("globex.localhost")

    answer = stranger.post("/account/signup/", {**DORA, "email": "bob@example.com"}, follow=True)

    assert "Check your mail" in answer.content.decode()
    assert not read(Membership.objects.filter(user=world.bob, brand=world.globex))
    body = arrived()[0].body
    assert 'choose "Join Globex"' in body
    assert "http://globex.localhost/account/login/" in body
    assert "act.localhost" not in body


def test_one_person_is_a_member_of_both_brands_with_a_plan_on_each(world):
    """I-28: the log-in of one brand holds on the other, the member joins there, and each brand has its own plan."""
    change(world.globex, default_plan="pooled")
    bob = browser("globex.localhost")
    bob.post("/account/login/", {"login": "bob@example.com", "password": factories.PASSWORD})

    asked = bob.get("/c/")
    assert asked.status_code == 404
    assert "Join Globex" in asked.content.decode()
    joined = bob.post("/join/", follow=True)

    assert joined.status_code == 200
    assert joined.request["PATH_INFO"] == "/c/"
    accounts = read(Account.objects.filter(owner_id=world.bob.pk))
    assert {(row.brand_id, row.plan_code) for row in accounts} == {(world.act.pk, "free"), (world.globex.pk, "pooled")}
    bob.post("/join/")
    assert len(read(Membership.objects.filter(user=world.bob))) == 2


def test_a_closed_brand_takes_nobody_who_was_not_invited(world):
    change(world.globex, open_sign_up=False)
    stranger, bob = browser("globex.localhost"), browser("globex.localhost")
    bob.force_login(world.bob)

    assert "Globex is by invitation only" in stranger.get("/account/signup/").content.decode()
    assert "Globex is by invitation only" in stranger.post("/account/signup/", DORA).content.decode()
    assert "by invitation only" in bob.get("/c/").content.decode()
    assert bob.post("/join/").status_code == 403
    assert not User.objects.filter(email=DORA["email"]).exists()
    assert not read(Membership.objects.filter(user=world.bob, brand=world.globex))


def test_joining_needs_somebody_who_is_signed_in(world):
    assert browser().post("/join/").headers["Location"].startswith("/account/login/")


@pytest.mark.parametrize("password", ["short", "password1234", "dora@example.com", ""])
def test_a_weak_password_is_refused_in_words(world, password):
    answer = browser().post("/account/signup/", {**DORA, "password1": password})

    assert answer.status_code == 200
    assert "field-error" in answer.content.decode()
    assert not User.objects.filter(email=DORA["email"]).exists()


@pytest.mark.parametrize("host", ["evil.localhost", "act.localhost.evil.com", "localhost.evil"])
@pytest.mark.parametrize("way", ["signup", "password/reset"])
def test_no_mail_leads_to_a_host_that_is_no_brand_s(world, mandatory, host, way):
    """A-04: whatever Host says, and X-Forwarded-Host says nothing."""
    page = {**DORA, "email": "alice@example.com"}

    assert browser(host).post(f"/account/{way}/", page).status_code in (400, 404)
    assert not arrived()
    browser().post(f"/account/{way}/", page, headers={"x-forwarded-host": host, "forwarded": f"host={host}"})
    assert {urlsplit(url).hostname for message in arrived() for url in LINK.findall(message.body)} == {"act.localhost"}


def test_the_plans_a_new_member_gets_are_rows_that_staff_edit(world):
    with scope(SERVICE):
        PlanLimit.objects.filter(plan=Plan.objects.get(brand=world.act, code="free"), meter="queries").update(limit=3)

    browser().post("/account/signup/", DORA)

    user = User.objects.get(email=DORA["email"])
    assert read(Entitlement.objects.filter(owner_id=user.pk, meter="queries"))[0].limit == 3


def test_nobody_has_an_address_flooded_with_mail(world, mandatory):
    """Asked from anywhere, on any brand, by reset and by sign-up, for known and unknown addresses alike."""
    asked = [
        ("/account/password/reset/", {"email": "alice@example.com"}),
        ("/account/password/reset/", {"email": "Alice@Example.com"}),
        ("/account/signup/", {**DORA, "email": "alice@example.com"}),
    ]
    for host in ("act.localhost", "globex.localhost"):
        for _ in range(5):
            for where, fields in asked:
                assert browser(host).post(where, fields).status_code == 302
    assert len(arrived()) == 10

    assert browser().post("/account/password/reset/", {"email": "bob@example.com"}).status_code == 302
    assert arrived()[-1].to == ["bob@example.com"]
