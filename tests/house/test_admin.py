"""Staff's pages: what they can do, what they cannot, and that what members wrote stays closed without a grant."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import brands, keys
from accounts.models import ApiKey, Brand, Membership, Profile, SupportGrant, User
from agents.models import Agent
from billing.models import Plan
from events import activity
from events.models import Activity, Notification
from lib.db import SERVICE, scope
from providers import offers
from providers.models import AIProvider, Price, SystemPrompt
from quotas.models import Account
from tests import factories

SECRET = "canary-of-bob"
CAPS = {"anonymous_allowance": 3, "anonymous_per_network": 9, "anonymous_per_day": 99}
LISTS = [
    "accounts_apikey", "accounts_brand", "accounts_membership", "accounts_supportgrant", "accounts_user",
    "agents_agent", "conversations_conversation", "conversations_message", "events_activity", "events_event",
    "providers_aiprovider", "providers_systemprompt",
]  # fmt: skip


@pytest.fixture
def staff(world, client):
    client.force_login(world.staff)
    client.defaults["HTTP_HOST"] = "act.localhost"
    return client


@pytest.fixture
def said(world):
    return factories.make_conversation(world.act, world.bob, f"{SECRET} title", said=[("user", f"{SECRET} text")])


@pytest.fixture
def client_of():
    """A signed-in browser of its own."""

    def sign_in(user, host="act.localhost"):
        client = Client(headers={"host": host})
        client.force_login(user)
        return client

    return sign_in


def grant(brand, staff, **fields):
    fields = {"reason": "ticket 4711", "expires_at": timezone.now() + timedelta(hours=1), **fields}
    with scope(SERVICE):
        return SupportGrant.objects.create(brand=brand, staff=staff, **fields)


def read(queryset):
    with scope(SERVICE):
        return list(queryset)


def act_on(client, model, action, *rows):
    return client.post(
        reverse(f"admin:{model}_changelist"), {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    )


def test_staff_make_a_brand_and_give_it_plans(staff):
    page = {
        "name": "Initech", "slug": "initech", "domain": "Initech.localhost", "zone": "America/Toronto", "hue": 20,
        "chroma": "0.1", "roundness": "1", "is_active": "on", "open_sign_up": "on", **CAPS,
    }  # fmt: skip

    assert staff.post(reverse("admin:accounts_brand_add"), page).status_code == 302
    brand = Brand.objects.get(slug="initech")
    chosen = act_on(staff, "accounts_brand", "give_catalogue", brand)
    catalogues = reverse("admin:accounts_brand_catalogue", args=[brand.pk])
    assert chosen.headers["Location"] == catalogues
    shown = staff.get(catalogues).content.decode()
    assert "15 queries per day" in shown
    assert "New members will get <strong>free</strong>" in shown
    assert read(Plan.objects.filter(brand=brand)) == [], "looking gives nothing"
    assert staff.post(catalogues, {"catalogue": "s1"}).status_code == 302
    assert "Initech itself will be put on <strong>Token pool</strong>" in staff.get(catalogues).content.decode()
    assert staff.post(catalogues, {"catalogue": "s0"}).status_code == 302
    shown = staff.get(catalogues).content.decode()
    assert "Stays as it is: free (10 queries per lifetime), basic" in shown
    assert "Initech has all of it." in shown
    assert "cannot be given this one: free counts queries here and messages there" in shown
    refused = staff.post(catalogues, {"catalogue": "s3"}, follow=True).content.decode()
    assert "Nothing was given. Give this catalogue to a brand of its own" in refused

    brand.refresh_from_db()
    assert brand.domain == "initech.localhost"
    assert brand.default_plan == "free"
    assert {plan.code for plan in read(Plan.objects.filter(brand=brand))} == {
        "free", "basic", "pro", "usage_only", "pool", "pooled",
    }  # fmt: skip
    assert read(Account.objects.filter(brand=brand, kind="brand"))[0].plan_code == "pool"
    assert [row.action for row in read(Activity.objects.filter(brand=brand).order_by("id"))] == [
        "brand.added", "brand.changed", "brand.changed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("zone", "Mars/Olympus"), ("domain", "act.localhost:8000"), ("domain", "https://act"), ("hue", "361"),
        ("default_plan", "gold"), ("default_plan", "basic"),
    ],
)  # fmt: skip
def test_a_brand_is_refused_what_it_cannot_be(staff, world, field, wrong):
    address = reverse("admin:accounts_brand_change", args=[world.act.pk])
    page = {"name": "Act", "slug": "act", "domain": "act.localhost", "zone": "UTC", "hue": 1, "chroma": "0.1"}
    page |= {"roundness": 1, **CAPS, "default_plan": "free", "is_active": "on", field: wrong}

    answer = staff.post(address, page)

    assert answer.status_code == 200
    assert list(answer.context["adminform"].form.errors) == [field]


def test_a_changed_brand_is_shown_at_once(staff, world, client, django_capture_on_commit_callbacks):
    assert b"Act" in client.get("/").content or client.get("/").status_code == 302
    address = reverse("admin:accounts_brand_change", args=[world.act.pk])
    page = {"name": "Renamed", "slug": "act", "domain": "act.localhost", "zone": "UTC", "hue": 1, "chroma": "0.1"}
    page |= {"roundness": 1, **CAPS, "default_plan": "free", "is_active": "on"}

    with django_capture_on_commit_callbacks(execute=True):
        staff.post(address, page)

    client.logout()
    assert b"Renamed" in client.get("/").content


def test_staff_make_a_person_without_a_password_and_a_member_with_a_plan(staff, world):
    staff.post(reverse("admin:accounts_user_add"), {"email": "Dora@Example.com"})
    dora = User.objects.get(email="dora@example.com")
    staff.post(reverse("admin:accounts_membership_add"), {"brand": world.act.pk, "user": dora.pk, "role": "admin"})

    assert not dora.has_usable_password()
    assert read(Profile.objects.filter(user=dora))
    assert read(Membership.objects.filter(user=dora))[0].role == "admin"
    assert read(Account.objects.filter(owner_id=dora.pk))[0].plan_code == "free"


def test_a_person_who_exists_is_not_made_twice(staff, world):
    answer = staff.post(reverse("admin:accounts_user_add"), {"email": "BOB@example.com"})

    assert "There is an account with this address" in answer.content.decode()


def test_no_page_shows_a_password_hash_or_a_key_hash(staff, world):
    with scope(SERVICE):
        key, text = keys.create(world.act, world.bob, name="bot", scopes=["chat"])

    for address in (
        reverse("admin:accounts_user_changelist"),
        reverse("admin:accounts_user_change", args=[world.bob.pk]),
        reverse("admin:accounts_apikey_changelist"),
        reverse("admin:accounts_apikey_change", args=[key.pk]),
    ):
        page = staff.get(address).content.decode()
        assert world.bob.password not in page
        assert key.key_hash not in page
        assert text not in page
    assert key.key_prefix in page


def test_suspending_ends_sessions_at_once_and_is_in_the_log(staff, world, client_of):
    bob = client_of(world.bob)
    assert bob.get("/c/").status_code == 200

    act_on(staff, "accounts_user", "suspend", world.bob)

    assert bob.get("/c/").status_code == 302
    assert [row.action for row in read(Activity.objects.filter(brand=world.act))] == ["user.changed"]
    act_on(staff, "accounts_user", "reinstate", world.bob)
    assert client_of(world.bob).get("/c/").status_code == 200


def test_staff_do_not_suspend_themselves(staff, world):
    act_on(staff, "accounts_user", "suspend", world.staff)

    world.staff.refresh_from_db()
    assert world.staff.is_active


def test_a_revoked_key_opens_nothing(staff, world, client):
    with scope(SERVICE):
        key, text = keys.create(world.act, world.bob, name="bot", scopes=["chat"])
    program = {"HTTP_AUTHORIZATION": f"Bearer {text}"}
    assert client.get("/v1/models", **program).status_code == 200

    act_on(staff, "accounts_apikey", "revoke", key)

    assert client.get("/v1/models", **program).status_code == 401
    assert not read(ApiKey.objects.filter(is_active=True))
    (notice,) = read(Notification.objects.filter(owner_id=world.bob.pk))
    assert notice.title == "Your API key “bot” was revoked"


def helper(client, *permissions):
    """Staff who are no superuser."""
    from django.contrib.auth.models import Permission

    person = factories.make_user("helper@example.com", is_staff=True)
    with scope(SERVICE):
        person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(person)
    client.defaults["HTTP_HOST"] = "act.localhost"
    return person


def test_staff_without_permission_see_no_page(world, client):
    helper(client)

    assert client.get(reverse("admin:index")).status_code == 200
    assert {client.get(reverse(f"admin:{model}_changelist")).status_code for model in LISTS} == {403}


def test_staff_who_are_no_superuser_make_nobody_staff_and_touch_no_staff(world, client):
    helper(client, "view_user", "change_user", "add_user")
    bob, boss = (reverse("admin:accounts_user_change", args=[user.pk]) for user in (world.bob, world.staff))

    client.post(bob, {"email": "evil@example.com", "is_active": "on", "is_staff": "on", "is_superuser": "on"})
    assert client.post(boss, {"is_active": ""}).status_code == 403
    act_on(client, "accounts_user", "suspend", world.staff)

    world.bob.refresh_from_db()
    world.staff.refresh_from_db()
    assert (world.bob.email, world.bob.is_staff, world.bob.is_superuser) == ("bob@example.com", False, False)
    assert world.staff.is_active


PRICES = {"prices-TOTAL_FORMS": 1, "prices-INITIAL_FORMS": 0}


def provider_page(**fields):
    return {
        "name": "Local", "api_identifier": "local", "kind": "chat", "protocol": "openai", "model": "m", "max_tokens": 100,
        "context_window": 1000, "position": 1, "config": "{}", "is_active": "on", **PRICES, **fields,
    }  # fmt: skip


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/", "https://127.0.0.1/v1", "file:///etc/passwd", "https://10.0.0.1/", "https://a@b/"],
)
def test_a_provider_is_not_saved_with_an_address_that_is_not_public(staff, url):
    """W-01, at save."""
    answer = staff.post(reverse("admin:providers_aiprovider_add"), provider_page(base_url=url))

    assert list(answer.context["adminform"].form.errors) == ["base_url"]
    assert not AIProvider.objects.filter(api_identifier="local").exists()


@pytest.mark.parametrize(
    "said",
    [{"EGRESS_ALLOW": ["127.0.0.1:11434"]}, {"EGRESS_ALLOW": [], "OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"}],
)
def test_a_provider_at_an_address_the_operator_allows_is_saved_and_offered(
    staff, settings, said, django_capture_on_commit_callbacks
):
    for name, value in said.items():
        setattr(settings, name, value)
    price = {"prices-0-input_microusd_per_mtok": 5, "prices-0-output_microusd_per_mtok": 7}
    price |= {"prices-0-starts_at_0": "2026-01-01", "prices-0-starts_at_1": "00:00:00"}
    offers.offers("chat")

    with django_capture_on_commit_callbacks(execute=True):
        answer = staff.post(
            reverse("admin:providers_aiprovider_add"), provider_page(base_url="http://127.0.0.1:11434/v1", **price)
        )

    assert answer.status_code == 302
    assert offers.offer("local").output_price == 7


def test_a_price_is_added_and_never_changed(staff, world):
    first = Price.objects.get(provider=world.demo)
    page = provider_page(name="Demo", api_identifier="demo", protocol="demo", model="demo")
    page |= {
        "prices-TOTAL_FORMS": 2, "prices-INITIAL_FORMS": 1, "prices-0-id": first.pk, "prices-0-provider": world.demo.pk,
        "prices-0-input_microusd_per_mtok": 99, "prices-0-output_microusd_per_mtok": 99, "prices-0-DELETE": "on",
        "prices-1-provider": world.demo.pk, "prices-1-input_microusd_per_mtok": 3,
        "prices-1-output_microusd_per_mtok": 4, "prices-1-starts_at_0": "2026-02-01", "prices-1-starts_at_1": "00:00",
    }  # fmt: skip

    answer = staff.post(reverse("admin:providers_aiprovider_change", args=[world.demo.pk]), page)

    assert answer.status_code == 302
    prices = Price.objects.filter(provider=world.demo).order_by("starts_at")
    assert [row.input_microusd_per_mtok for row in prices] == [first.input_microusd_per_mtok, 3]


def test_the_log_cannot_be_changed_by_anybody(staff, world):
    """A-19"""
    with scope(SERVICE):
        activity.record(world.act.pk, "key.created", actor_id=None, resource=("api_key", None))
        line = Activity.objects.get()
    page = reverse("admin:events_activity_change", args=[line.pk])

    assert staff.get(page).status_code == 200
    assert staff.post(page, {"action": "nothing"}).status_code == 403
    assert staff.post(reverse("admin:events_activity_delete", args=[line.pk]), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("name", ["conversations_conversation", "conversations_message"])
def test_content_is_closed_without_a_grant(staff, world, said, name):
    """I-16: the list, the row, its history and the search behind choice fields."""
    grant(world.globex, world.staff)  # for another brand
    grant(world.act, world.alice)  # of another person
    grant(world.act, world.staff, expires_at=timezone.now() - timedelta(seconds=1))
    grant(world.act, world.staff, revoked_at=timezone.now())
    row_id = said.pk if name.endswith("conversation") else read(said.messages.all())[0].pk

    pages = [
        staff.get(reverse(f"admin:{name}_{page}", args=[row_id]), follow=True)
        for page in ("change", "history", "delete")
    ]
    listed = staff.get(reverse(f"admin:{name}_changelist"), {"q": SECRET})
    search = {"app_label": "conversations", "model_name": "message", "field_name": "conversation", "term": SECRET}
    chosen = staff.get(reverse("admin:autocomplete"), search)

    assert {page.status_code for page in [*pages, chosen]} == {403}
    for page in (*pages, listed, chosen):
        assert f"{SECRET} t" not in page.content.decode()
    assert "Make a support grant" in pages[0].content.decode()
    assert not read(Activity.objects.filter(brand=world.act, action="support.read"))


def test_without_any_grant_the_list_itself_is_refused(staff, said):
    answer = staff.get(reverse("admin:conversations_conversation_changelist"))

    assert answer.status_code == 403
    assert "Make a support grant" in answer.content.decode()


def test_a_grant_opens_one_brand_and_every_reading_is_written_down(staff, world, said):
    """I-16"""
    theirs = factories.make_conversation(world.globex, world.charlie, "canary-of-charlie")
    page = {"brand": world.act.pk, "reason": "ticket 4711"}
    soon = timezone.now() + timedelta(days=2)
    page |= {"expires_at_0": f"{soon:%Y-%m-%d}", "expires_at_1": f"{soon:%H:%M:%S}"}
    assert staff.post(reverse("admin:accounts_supportgrant_add"), page).status_code == 302

    listed = staff.get(reverse("admin:conversations_conversation_changelist"))
    opened = staff.get(reverse("admin:conversations_conversation_change", args=[said.pk]))
    messages = staff.get(reverse("admin:conversations_message_changelist"), {"conversation__id__exact": said.pk})
    foreign = staff.get(reverse("admin:conversations_conversation_change", args=[theirs.pk]))

    assert SECRET in listed.content.decode()
    assert SECRET in opened.content.decode()
    assert SECRET in messages.content.decode()
    assert b"canary-of-charlie" not in listed.content
    assert foreign.status_code == 403
    lines = read(Activity.objects.filter(brand=world.act).order_by("id"))
    assert [(line.action, line.resource_type, line.resource_id) for line in lines[1:]] == [
        ("support.read", "conversation", None),
        ("support.read", "conversation", said.pk),
        ("support.read", "message", None),
    ]
    assert lines[0].action == "supportgrant.added"
    assert {line.actor_id for line in lines} == {world.staff.pk}
    assert {line.description for line in lines[1:]} == {"ticket 4711"}
    assert all(line.changes["until"] for line in lines[1:])
    assert not read(Activity.objects.filter(brand=world.globex))


def test_a_grant_is_for_oneself_with_a_reason_and_ends_within_a_week(staff, world):
    def ask(**fields):
        end = timezone.now() + fields.pop("lasts", timedelta(days=1))
        page = {"brand": world.act.pk, "reason": "ticket", "staff": world.alice.pk, **fields}
        page |= {"expires_at_0": f"{end:%Y-%m-%d}", "expires_at_1": f"{end:%H:%M:%S}"}
        return staff.post(reverse("admin:accounts_supportgrant_add"), page).status_code

    assert ask(reason=" ") == 200
    assert ask(lasts=timedelta(days=8)) == 200
    assert ask(lasts=timedelta(days=-1)) == 200
    assert not read(SupportGrant.objects.all())
    assert ask(lasts=timedelta(days=7)) == 302
    assert [row.staff_id for row in read(SupportGrant.objects.all())] == [world.staff.pk]


def test_an_ended_grant_closes_the_door(staff, world, said):
    given = grant(world.act, world.staff)
    address = reverse("admin:conversations_conversation_change", args=[said.pk])
    assert staff.get(address).status_code == 200

    act_on(staff, "accounts_supportgrant", "end", given)

    assert staff.get(address).status_code == 403


def test_content_is_read_and_nothing_else(staff, world, said):
    grant(world.act, world.staff)
    address = reverse("admin:conversations_conversation_change", args=[said.pk])

    assert staff.post(address, {"title": "changed"}).status_code == 403
    assert staff.get(reverse("admin:conversations_conversation_add")).status_code == 403
    assert staff.post(reverse("admin:conversations_conversation_delete", args=[said.pk])).status_code == 403
    act_on(staff, "conversations_conversation", "delete_selected", said)
    assert read(type(said).objects.all())[0].title == f"{SECRET} title"


def test_being_staff_makes_nobody_a_member(staff, world, said):
    assert staff.get("/admin/").status_code == 200
    assert staff.get("/c/").status_code == 404
    assert staff.get(f"/c/{said.pk}/").status_code == 404


@pytest.mark.parametrize("host", ["act.localhost", "globex.localhost", "localhost"])
def test_staff_come_in_through_the_brand_s_own_log_in_on_any_host(world, client, host):
    """A-20: a stranger is sent to sign in, where the limits on guessing hold; a member is told that it is not for him."""
    client.defaults["HTTP_HOST"] = host
    asked = client.get("/admin/accounts/user/", follow=True)
    assert asked.request["PATH_INFO"] == "/account/login/"
    login = {"login": "staff@example.com", "password": factories.PASSWORD, "next": "/admin/accounts/user/"}

    answer = client.post("/account/login/", login, follow=True)

    assert answer.status_code == 200
    assert b"bob@example.com" in answer.content
    client.logout()
    client.force_login(world.alice)
    refused = client.get("/admin/", follow=True)
    assert refused.status_code == 403
    assert "Only our staff" in refused.content.decode()


@pytest.mark.parametrize("name", LISTS)
def test_a_list_asks_the_database_as_often_for_many_rows_as_for_few(staff, world, name):
    def questions():
        brands.forget()
        offers.forget()
        with CaptureQueriesContext(connections["service"]) as asked:
            assert staff.get(reverse(f"admin:{name}_changelist")).status_code == 200
        return [row["sql"] for row in asked]

    grant(world.act, world.staff)
    grant(world.globex, world.staff)
    many_rows(world, "few", 1)
    few = questions()
    many_rows(world, "many", 4)
    many = questions()

    assert len(many) == len(few), many


def many_rows(world, word, count):
    for number in range(count):
        name = f"{word}{number}"
        user = factories.make_user(f"{name}@example.com")
        brand = factories.make_brand(name)
        factories.make_member(brand, user)
        factories.make_member(world.act, user)
        factories.make_conversation(world.act, user, said=[("user", name)])
        factories.make_provider(name)
        factories.make_prompt(world.act, name)
        grant(brand, user)
        with scope(SERVICE):
            keys.create(brand, user, name=name, scopes=[])
            Agent.objects.create(brand=brand, owner_id=user.pk, slug=name, name=name, ai_model="demo")
            activity.record(brand.pk, name, actor_id=user.pk, resource=("user", user.pk))


def test_a_prompt_stays_with_its_brand(staff, world):
    page = {"brand": world.globex.pk, "name": "New", "prompt_text": "text", "position": 1, "is_active": "on"}

    staff.post(reverse("admin:providers_systemprompt_change", args=[world.prompt.pk]), page)

    moved = read(SystemPrompt.objects.filter(pk=world.prompt.pk))[0]
    assert (moved.name, moved.brand_id) == ("New", world.act.pk)


def test_models_say_what_a_provider_may_not_be(world):
    world.demo.max_tokens = world.demo.context_window
    with pytest.raises(ValidationError):
        world.demo.clean()


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_the_pages_work_under_our_content_security_policy(live_world, live_server):
    """V-04 in Chromium: choice by typing, calendar, two-column boxes; not one thing is blocked."""
    from playwright.sync_api import sync_playwright

    from tests.conftest import CHROMIUM

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        origin = live_server.url.replace("127.0.0.1", "act.localhost").replace("//localhost", "//act.localhost")
        page.goto(f"{origin}/admin/")
        page.fill("[name=login]", "staff@example.com")
        page.fill("[name=password]", factories.PASSWORD)
        page.click("main button.btn--primary")
        page.goto(f"{origin}/admin/accounts/supportgrant/add/")
        page.click(".select2-selection")
        page.fill(".select2-search__field", "glob")
        page.click("li.select2-results__option >> text=Globex")
        page.fill("[name=reason]", "ticket 1")
        page.click(".datetimeshortcuts >> text=Tomorrow") if page.query_selector(
            ".datetimeshortcuts >> text=Tomorrow"
        ) else page.click(".datetimeshortcuts a:has(.date-icon)")
        assert page.is_visible(".calendarbox") or page.input_value("[name=expires_at_0]")
        page.keyboard.press("Escape")
        page.click("[name=_save]")
        page.wait_for_selector(".messagelist .success")
        page.goto(f"{origin}/admin/accounts/user/{live_world.bob.pk}/change/")
        page.wait_for_selector(".selector-available")
        browser.close()

    assert [text for text in said if "Content Security Policy" in text or "Error" in text] == []
