"""Somebody without an account asks, through the pages: who they are, what they may ask, and what waits at the limit."""

import re
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection

from accounts import brands, visitors
from accounts.models import Brand, Visitor
from billing.models import Plan, PlanLimit
from billing.plans import assign_plan
from chatsite.isolation.catalogue import walled
from conversations.chats import pending, retention
from conversations.models import BrandTemplate, Conversation, Message, PendingMessage
from lib import clock
from lib.db import SERVICE, scope
from quotas.models import Account, Entry
from tests.isolation.grid.scene import Browser
from tests.post import arrived


def browser(host="act.localhost", **extra):
    return Browser(headers={"host": host, **extra})


def read(queryset):
    with scope(SERVICE):
        return list(queryset)


def change(brand, **fields):
    with scope(SERVICE):
        Brand.objects.filter(pk=brand.pk).update(**fields)
    brands.forget()


def ask(client, text="hello", chat="/c/", **extra):
    return client.post(f"{chat}send/", {"text": text, **extra})


def text_of(answer):
    return re.sub(r"\s+", " ", answer.content.decode())


def test_the_front_door_is_the_composer_and_looking_at_it_leaves_no_trace(world):
    stranger = browser()

    page = text_of(stranger.get("/"))

    assert 'id="composer-form"' in page
    assert "3 free questions" in page
    assert visitors.COOKIE not in stranger.cookies
    assert not read(Visitor.objects.all())


def test_a_first_question_makes_a_visitor_whose_chat_has_an_address(world):
    stranger = browser()

    sent = ask(stranger, "What is a heat pump?")
    chat = sent.headers["Location"]
    page = text_of(stranger.get(chat))

    assert sent.status_code == 303
    cookie = stranger.cookies[visitors.COOKIE]
    assert (cookie["httponly"], cookie["samesite"], bool(cookie["secure"])) == (True, "Lax", False)
    assert "What is a heat pump?" in page
    assert "2 of 3 free questions left" in page
    (found,) = read(Conversation.objects.all())
    assert (found.owner_kind, found.owner_id) == ("visitor", found.visitor_id)
    assert [one.pk for one in read(Visitor.objects.all())] == [found.visitor_id]
    assert text_of(stranger.get("/")).count(chat) == 1


def test_at_the_limit_the_message_is_stored_and_an_account_is_offered(world):
    stranger = browser()
    chat = ask(stranger).headers["Location"]
    for _ in range(2):
        assert ask(stranger, chat=chat).status_code == 303

    plain = ask(stranger, "And the attic?", chat=chat)
    in_page = stranger.post(f"{chat}send/", {"text": "And the roof?"}, headers={"HX-Request": "true"})

    assert plain.status_code == in_page.status_code == 402
    assert "You have asked your 3 free questions." in text_of(plain)
    assert '<p class="bubble" dir="auto">And the attic?</p>' in text_of(plain)
    assert '<p class="bubble" dir="auto">And the roof?</p>' in text_of(in_page)
    assert 'id="sign-up" hx-swap-oob="true"' in text_of(in_page)
    (waiting,) = read(PendingMessage.objects.all())
    assert waiting.text == "And the roof?"
    assert len(read(Message.objects.filter(role="user"))) == 3


def sign_up(client, email="dora@example.com"):
    return client.post("/account/signup/", {"email": email, "password1": "a-long-password"})


@pytest.fixture
def mandatory(settings):
    """As in production: nobody is signed in before the address is confirmed."""
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"


@pytest.fixture
def at_the_limit(world):
    """Somebody with one chat and no free question left; what was written last waits."""
    change(world.act, anonymous_allowance=1)
    stranger = browser()
    chat = ask(stranger, "First?").headers["Location"]
    assert ask(stranger, "Second?", chat=chat).status_code == 402
    return stranger, chat


def questions():
    return [row.content for row in read(Message.objects.filter(role="user").order_by("id"))]


def test_whoever_signs_up_keeps_the_chat_and_gets_the_answer_once(world, at_the_limit):
    """S4: adopted and sent once, whatever is repeated; the old cookie opens nothing; the plan pays for that one only."""
    stranger, chat = at_the_limit
    old = stranger.cookies[visitors.COOKIE].value

    signed_up = sign_up(stranger)
    first, second = stranger.get(signed_up.headers["Location"]), stranger.get("/welcome/")

    assert signed_up.headers["Location"] == "/welcome/"
    assert (first.status_code, first.headers["Location"]) == (302, chat)
    assert second.headers["Location"] == chat
    assert questions() == ["First?", "Second?"]
    assert "Second?" in text_of(stranger.get(chat))
    assert stranger.cookies[visitors.COOKIE].value == ""
    (conversation,) = read(Conversation.objects.all())
    assert (conversation.owner_kind, conversation.visitor_id) == ("user", None)
    owners = {row.owner_id for row in read(Message.objects.all())}
    assert owners == {conversation.owner_id}
    assert not read(Visitor.objects.all())
    mine = read(Entry.objects.filter(owner_id=conversation.owner_id, bucket__meter="queries", kind="use"))
    assert sum(entry.used_delta for entry in mine) == 1

    thief = browser()
    thief.cookies[visitors.COOKIE] = old
    assert thief.get(chat).headers["Location"].startswith("/account/login/")
    assert ask(thief, chat=chat).headers["Location"].startswith("/account/login/")
    assert chat not in text_of(thief.get("/"))


STAYS = {  # what was free was asked by a visitor, and the member's plan knows nothing of it
    "quotas_account", "quotas_bucket", "quotas_entitlement", "quotas_entry", "quotas_usagelog"
}  # fmt: skip


def test_nothing_but_the_books_stays_with_the_visitor(world, at_the_limit):
    """Whatever table a visitor may write to, now or later: its rows go over by themselves, or are named in the adoption."""
    stranger, _ = at_the_limit
    (visitor,) = read(Visitor.objects.all())
    sign_up(stranger)
    stranger.get("/welcome/")

    with scope(SERVICE), connection.cursor() as cursor:
        tables = [table for table in walled(cursor).values() if table.owner_column]
        left = set()
        for table in tables:
            cursor.execute(f'select 1 from "{table.name}" where {table.owner_column} = %s limit 1', [visitor.pk])
            left |= {table.name} if cursor.fetchone() else set()
        cursor.execute(
            """
            with recursive follows as (
                select 'conversations_conversation'::regclass::oid as id
                union select conrelid from pg_constraint join follows on confrelid = follows.id
                where contype = 'f' and confupdtype = 'c')
            select c.relname from pg_class c
            where c.relname = any(%s) and has_table_privilege('app_visitor', c.oid, 'insert')
                  and c.oid not in (select id from follows)
            """,
            [[table.name for table in tables]],
        )
        written = {name for (name,) in cursor.fetchall()}

    assert left == STAYS
    assert written == {"accounts_idempotencyrecord", "conversations_pendingmessage"}


def test_visitors_of_whom_nothing_is_left_are_forgotten_and_what_they_asked_still_counts(world, at_the_limit):
    stranger, _ = at_the_limit
    late = clock.now() + timedelta(days=2)

    assert pending.forget(late) == 0
    retention.sweep(late)
    assert (pending.forget(late), len(read(PendingMessage.objects.all()))) == (0, 1)
    assert pending.forget(late + timedelta(days=7)) == 1

    assert not read(PendingMessage.objects.all()) + read(Visitor.objects.all()) + read(Conversation.objects.all())
    assert ask(stranger).status_code == 402


def test_who_logs_in_to_an_account_that_has_chats_finds_this_one_among_them(world, at_the_limit):
    stranger, chat = at_the_limit
    own = ask_as(world.bob)

    logged_in = stranger.post("/account/login/", {"login": "bob@example.com", "password": "a-long-password"})
    landed = stranger.get(logged_in.headers["Location"], follow=True)

    assert landed.request["PATH_INFO"] == chat
    assert {str(row.pk) for row in read(Conversation.objects.filter(owner_id=world.bob.pk))} == {
        address.strip("/").removeprefix("c/") for address in (chat, own)
    }
    assert questions() == ["First?", "Of bob's", "Second?"]


def ask_as(user):
    client = browser()
    client.force_login(user)
    return ask(client, "Of bob's").headers["Location"]


def test_a_mail_confirmed_on_another_device_brings_the_chat_there(world, at_the_limit, mandatory):
    """The link of the mail says whose chats these are; for nobody else's account, and changed for nobody's."""
    stranger, chat = at_the_limit
    assert sign_up(stranger).headers["Location"] == "/account/confirm-email/"
    link = re.findall(r"http://act.localhost(\S+)", arrived()[0].body)[0]
    phone = browser()

    page = text_of(phone.get(link))
    assert "First?" not in page
    fields = dict(re.findall(r'type="hidden" name="(visitor)" value="([^"]+)"', page))
    assert phone.post(link.partition("?")[0], fields).status_code == 302
    assert questions() == ["First?"]
    logged_in = phone.post("/account/login/", {"login": "dora@example.com", "password": "a-long-password"})
    landed = phone.get(logged_in.headers["Location"], follow=True)

    assert landed.request["PATH_INFO"] == chat
    assert questions() == ["First?", "Second?"]
    late = stranger.post("/account/login/", {"login": "dora@example.com", "password": "a-long-password"})
    assert stranger.get(late.headers["Location"]).headers["Location"] == chat
    assert questions() == ["First?", "Second?"]


@pytest.mark.parametrize("change_of", ["made up", "another's"])
def test_a_changed_link_confirms_and_adopts_nothing(world, at_the_limit, mandatory, change_of):
    stranger, _ = at_the_limit
    sign_up(stranger)
    link, _, told = re.findall(r"http://act.localhost(\S+)", arrived()[0].body)[0].partition("?visitor=")
    eve = browser()
    sign_up(eve, "eve@example.com")
    of_eve = re.findall(r"http://act.localhost(\S+)", arrived()[1].body)[0].partition("?")[0]

    address = f"{of_eve}?visitor={told}" if change_of == "another's" else f"{link}?visitor={told[:-2]}xx"
    assert browser().post(address).status_code == 302

    assert [row.owner_kind for row in read(Conversation.objects.all())] == ["visitor"]


def test_confirming_in_the_same_browser_lands_in_the_chat(world, at_the_limit, mandatory):
    stranger, chat = at_the_limit
    sign_up(stranger)
    link = re.findall(r"http://act.localhost(\S+)", arrived()[0].body)[0]

    landed = stranger.post(link, follow=True)

    assert landed.request["PATH_INFO"] == chat
    assert questions() == ["First?", "Second?"]


def test_an_account_of_another_brand_joins_first_and_then_has_the_chat(world, at_the_limit):
    stranger, chat = at_the_limit

    stranger.post("/account/login/", {"login": "charlie@example.com", "password": "a-long-password"})
    assert "Join Act" in text_of(stranger.get("/welcome/"))
    assert [row.owner_kind for row in read(Conversation.objects.all())] == ["visitor"]
    joined = stranger.post("/join/", follow=True)

    assert joined.request["PATH_INFO"] == chat
    assert questions() == ["First?", "Second?"]


def test_what_cannot_be_sent_is_back_in_the_composer_with_the_reason(world, at_the_limit):
    stranger, chat = at_the_limit
    with scope(SERVICE):
        PlanLimit.objects.filter(plan=Plan.objects.get(brand=world.act, code="free"), meter="queries").update(limit=0)

    sign_up(stranger)
    landed = stranger.get("/welcome/", follow=True)

    assert landed.request["PATH_INFO"] == chat
    page = text_of(landed)
    assert ">Second?</textarea>" in page
    assert "Your plan includes no questions" in page
    assert questions() == ["First?"]
    with scope(SERVICE):
        bob = Account.objects.get(kind="user", owner_id=read(Conversation.objects.all())[0].owner_id)
        assign_plan(world.act, Plan.objects.get(brand=world.act, code="pro"), user_id=bob.owner_id)
    key = re.search(r'name="idempotency_key" value="(pending:[^"]+)"', page)[1]
    for _ in range(2):
        assert ask(stranger, "Second, but better?", chat=chat, idempotency_key=key).status_code == 303
    assert questions() == ["First?", "Second, but better?"]
    page = text_of(stranger.get(chat))
    assert "</textarea>" in page
    assert "?</textarea>" not in page
    assert stranger.get("/welcome/").headers["Location"] == "/c/"


def test_what_a_first_question_was_about_and_how_it_was_to_be_answered_waits_with_it(world):
    """S1 context: bought by the limit of the brand's day, so the visitor has no chat yet."""
    change(world.act, anonymous_allowance=1)
    stranger = browser()
    assert ask(stranger, "First?").status_code == 303
    about = {"context_type": "bill", "context_id": "C-11", "context_label": "November"}
    assert ask(stranger, "What is odd here?", system_prompt="Be brief.", temperature="0.5", **about).status_code == 402
    page = text_of(stranger.get("/"))
    assert "What is odd here?</textarea>" in page
    assert 'name="context_label" value="November"' in page

    sign_up(stranger)
    landed = stranger.get("/welcome/")

    (chat,) = read(Conversation.objects.filter(context_id="C-11"))
    assert landed.headers["Location"] == f"/c/{chat.pk}/"
    assert (chat.context_type, chat.context_label, chat.system_prompt) == ("bill", "November", "Be brief.")
    assert chat.settings == {"temperature": 0.5}
    (kept,) = read(PendingMessage.objects.all())
    assert (kept.text, kept.asked) == ("", {})


def test_an_edit_that_meets_the_limit_waits_too_and_is_asked_as_an_edit(world):
    change(world.act, anonymous_allowance=1)
    stranger = browser()
    chat = ask(stranger, "First?").headers["Location"]
    (first,) = read(Message.objects.filter(role="user"))
    edit = f"/messages/{first.pk}/edit/"

    refused = stranger.post(edit, {"text": "First, but better?"}, headers={"HX-Request": "true"})

    assert refused.status_code == 402
    assert '<p class="bubble" dir="auto">First, but better?</p>' in text_of(refused)
    assert "First, but better?" in text_of(stranger.get(chat))
    sign_up(stranger)
    assert stranger.get("/welcome/").headers["Location"] == chat
    assert stranger.get("/welcome/").headers["Location"] == chat
    assert questions() == ["First?", "First, but better?"]
    shown = [row.content for row in read(Message.objects.filter(role="user", is_current=True))]
    assert shown == ["First, but better?"], "it stands beside the first one, not after it"


def test_an_edit_that_is_asked_after_all_leaves_what_else_waits_in_its_chat(world, at_the_limit):
    stranger, _chat = at_the_limit
    change(world.act, anonymous_allowance=2)
    (first,) = read(Message.objects.filter(role="user"))

    assert stranger.post(f"/messages/{first.pk}/edit/", {"text": "First, but better?"}).status_code == 303

    assert [row.text for row in read(PendingMessage.objects.all())] == ["Second?"]


def test_what_waited_longer_is_a_draft_and_nobody_sends_it_at_a_later_log_in(world, at_the_limit):
    """Of several that met the limit the newest is sent; when that one is refused, no older one goes in its place."""
    stranger, chat = at_the_limit
    assert ask(stranger, "Something else?").status_code == 402
    with scope(SERVICE):
        PlanLimit.objects.filter(plan=Plan.objects.get(brand=world.act, code="free"), meter="queries").update(limit=0)

    sign_up(stranger)
    assert "Something else?</textarea>" in text_of(stranger.get("/welcome/", follow=True))
    with scope(SERVICE):
        PlanLimit.objects.filter(plan=Plan.objects.get(brand=world.act, code="free"), meter="queries").update(limit=5)
    for _ in range(2):
        stranger.get("/welcome/")

    assert questions() == ["First?"]
    assert "Second?</textarea>" in text_of(stranger.get(chat))
    (owner,) = {row.owner_id for row in read(PendingMessage.objects.all())}
    assert not pending.is_to_send(world.act.pk, owner)


def test_a_link_of_another_site_leads_a_stranger_to_the_front_door_and_says_what_it_is_about(world):
    with scope(SERVICE):
        BrandTemplate.objects.create(brand=world.act, title="Check my bill", text="What is odd in this bill?")
    stranger = browser()

    landed = stranger.get("/c/new?context=bill:C-11&label=November", follow=True)

    assert landed.request["PATH_INFO"] == "/"
    assert "November" in text_of(landed)
    assert text_of(landed).count("Check my bill") == 1
    assert "What is odd in this bill?" in text_of(landed)


def test_a_brand_may_ask_for_an_account_at_once(world):
    change(world.act, anonymous_allowance=0)
    stranger = browser()

    page = text_of(stranger.get("/"))

    assert "composer-form" not in page
    assert "/account/signup/" in page
    assert ask(stranger).headers["Location"].startswith("/account/login/")
    assert not read(Visitor.objects.all())


@pytest.mark.parametrize("wrong", ["", "x", "a" * 5000, "0198c7d0000070008000000000000000:1abc:forged", "\x00", "é"])
def test_a_cookie_that_is_none_makes_a_new_visitor_and_no_error(world, wrong):
    stranger = browser()
    stranger.cookies[visitors.COOKIE] = wrong

    assert stranger.get("/").status_code == 200
    assert stranger.get("/welcome/").status_code == 302
    assert ask(stranger).status_code == 303
    assert len(read(Visitor.objects.all())) == 1


def test_a_cookie_is_of_one_brand_and_outlives_a_change_of_the_key(world, settings):
    stranger = browser()
    chat = ask(stranger).headers["Location"]
    there = browser("globex.localhost")
    there.cookies[visitors.COOKIE] = stranger.cookies[visitors.COOKIE].value

    assert there.get(chat).status_code == 302
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "n" * 50
    assert stranger.get(chat).status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert stranger.get(chat).status_code == 302


def test_throwing_cookies_away_buys_no_more_than_the_network_may_ask(world):
    """S4: a private window for each question; and another network has its own, until all visitors' of the day are used."""
    change(world.act, anonymous_per_network=2, anonymous_per_day=3)

    asked = [ask(browser()) for _ in range(3)]

    assert [answer.status_code for answer in asked] == [303, 303, 402]
    assert "your network" in text_of(asked[2])
    elsewhere = [
        ask(Browser(headers={"host": "act.localhost"}, REMOTE_ADDR=address)) for address in ("10.1.2.3", "10.1.3.3")
    ]
    assert [answer.status_code for answer in elsewhere] == [303, 402]
    assert "All free questions are asked for today" in text_of(elsewhere[1])
    assert {row.kind for row in read(Account.objects.filter(kind__in=("visitor", "network", "visitors")))} == {
        "visitor", "network", "visitors"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        ("10.1.2.3", "10.1.2.250", True),
        ("10.1.2.3", "10.1.3.3", False),
        ("2001:db8:1:2::1", "2001:db8:1:ffff::9", True),
        ("2001:db8:1::1", "2001:db8:2::1", False),
        ("::ffff:10.1.2.3", "10.1.2.9", True),
    ],
)
def test_a_network_is_its_prefix_and_a_header_says_nothing_of_it(world, rf, one, other, are_same):
    networks = {
        visitors.network_of(rf.get("/", REMOTE_ADDR=address, headers={"x-forwarded-for": spoofed}))
        for address, spoofed in ((one, "1.1.1.1"), (other, "2.2.2.2"))
    }

    assert len(networks) == (1 if are_same else 2)


def test_a_flood_of_new_visitors_from_one_network_leaves_no_rows(world, monkeypatch):
    monkeypatch.setattr(visitors, "NEW_PER_HOUR", 2)
    cache.clear()

    asked = [ask(browser()) for _ in range(3)]

    assert [answer.status_code for answer in asked] == [303, 303, 429]
    assert "hello</textarea>" in text_of(asked[2])
    assert len(read(Visitor.objects.all())) == 2


def test_over_tls_the_cookie_is_of_this_host_alone_and_an_old_one_goes_on(world, settings):
    """A neighbour under the same domain can plant no name with __Host-; who has a name from before keeps it."""
    stranger = browser()
    ask(stranger)
    (visitor,) = read(Visitor.objects.all())
    settings.SESSION_COOKIE_SECURE = True

    answer = ask(stranger, "again")

    cookie = answer.cookies[visitors.HOST_COOKIE]
    assert (cookie["secure"], cookie["path"], cookie["domain"], cookie["httponly"]) == (True, "/", "", True)
    assert visitors.COOKIE not in answer.cookies
    assert [row.pk for row in read(Visitor.objects.all())] == [visitor.pk]
    planted = browser()
    planted.cookies[visitors.HOST_COOKIE] = cookie.value
    planted.cookies[visitors.COOKIE] = "planted"
    ask(planted, "mine")
    assert [row.pk for row in read(Visitor.objects.all())] == [visitor.pk], "the one of this host counts"
