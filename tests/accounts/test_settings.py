"""The settings page: what is saved, what is refused, what the browser remembers, and how somebody leaves for good."""

import io
import re
import struct
import zlib
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal import auth as totp
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers.github.views import GitHubOAuth2Adapter
from allauth.socialaccount.providers.oauth2.client import OAuth2Client
from allauth.usersessions.models import UserSession
from asgiref.sync import async_to_sync
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from PIL import Image

from accounts import brands
from accounts.models import Brand, Membership, Profile, User
from chatsite import asgi, erasing
from chatsite.avatars import MOST_BYTES, BadPicture, drawn
from chatsite.isolation.catalogue import tables
from conversations.chats.export import unwrapping
from events import notices
from events.models import Activity, EmailLog, Notification, WebhookEndpoint
from events.webhooks import signing
from lib import clock, files
from lib.db import SERVICE, scope
from lib.ids import uuid7
from lib.keyring import KeyRing
from providers import offers
from providers.models import AIProvider, SystemPrompt
from quotas import ledger
from quotas.models import Account
from tests import factories
from tests.post import arrived

ALICE = {"login": "alice@example.com", "password": factories.PASSWORD}
BOB = {"login": "bob@example.com", "password": factories.PASSWORD}
HTMX = {"hx-request": "true"}


def browser(**headers):
    return Client(headers={"host": "act.localhost", **headers})


def signed_in(who=BOB, **headers):
    client = browser(**headers)
    assert client.post("/account/login/", who).status_code == 302
    return client


def a_while_ago(client):
    """It is an hour since this one signed in."""
    session = client.session
    for record in session["account_authentication_methods"]:
        record["at"] -= 3600
    session.save()


def profile_of(user):
    with scope(SERVICE):
        return Profile.objects.get(user=user)


def wanted(client):
    return parse_qs(client.cookies["prefs"].value)


def test_each_field_is_saved_by_itself_with_and_without_javascript(world):
    bob = signed_in()

    plain = bob.post("/settings/change/", {"field": "company_name", "company_name": "Ferrow"}, follow=True)
    part = bob.post("/settings/change/", {"field": "theme", "theme": "dark"}, headers=HTMX)
    bob.post("/settings/change/", {"field": "enter_sends"})  # a box without its tick
    bob.post("/settings/change/", {"field": "zone", "zone": "Asia/Tokyo"})

    assert plain.redirect_chain[0] == ("/settings/#company_name", 303)
    assert "Saved" in plain.content.decode()
    assert re.search(r'id="said-theme" role="status".*Saved', part.content.decode())
    found = profile_of(world.bob)
    assert (found.company_name, found.theme, found.enter_sends, found.zone) == ("Ferrow", "dark", False, "Asia/Tokyo")
    page = bob.get("/settings/").content.decode()
    assert '<html lang="en" dir="ltr" data-theme="dark" data-enter="line">' in page
    assert "Back to what Act uses" in page
    bob.post("/settings/change/", {"field": "zone", "zone": ""})
    assert profile_of(world.bob).zone == ""
    assert "zone" not in wanted(bob)
    assert wanted(signed_in())["theme"] == ["dark"]  # another browser learns it when its person signs in


def test_what_cannot_be_saved_is_said_beside_it_and_at_the_top_and_stays_as_typed(world):
    """F-02: nothing that is sent makes more than a 4xx, and nothing of it is stored."""
    bob = signed_in()
    before = profile_of(world.bob)

    page = bob.post("/settings/change/", {"field": "phone", "phone": "call me <b>maybe</b>"})
    part = bob.post("/settings/change/", {"field": "phone", "phone": "call me"}, headers=HTMX)

    text = page.content.decode()
    assert page.status_code == part.status_code == 422
    assert "This was not saved:" in text
    assert 'value="call me &lt;b&gt;maybe&lt;/b&gt;"' in text
    assert 'role="alert"' in part.content.decode()
    odd = [
        {"field": "zone", "zone": "Mars/Olympus"},
        {"field": "language", "language": "tlh"},
        {"field": "theme", "theme": "pink"},
        {"field": "announce", "announce": ""},
        {"field": "full_name", "full_name": "a\x00b"},
        {"field": "full_name", "full_name": "x" * 500},
        {"field": "user_id", "user_id": str(world.alice.pk)},
        {"field": "avatar_key", "avatar_key": "x"},
        {},
    ]
    assert {bob.post("/settings/change/", sent).status_code for sent in odd} <= {400, 422}
    after = profile_of(world.bob)
    assert {**after.__dict__, "_state": 0} == {**before.__dict__, "_state": 0}


@pytest.mark.parametrize(
    ("headers", "cookie", "language"),
    [
        ({}, "", "en"),
        ({"accept-language": "de-AT,de;q=0.9,en;q=0.5"}, "", "de"),
        ({"accept-language": "fr,tlh"}, "", "en"),
        ({"accept-language": "de"}, "language=en", "en"),
        ({}, "language=de", "de"),
        ({}, "language=%00&theme=%22%3E%3Cscript%3E&zone=" + "x" * 3000, "en"),
    ],
)
def test_a_page_speaks_the_language_of_the_cookie_or_else_of_the_browser(world, headers, cookie, language):
    client = browser(**headers)
    client.cookies["prefs"] = cookie

    for address in ("/account/login/", "/nothing/here/"):
        page = client.get(address)

        assert f'<html lang="{language}" dir="ltr">' in page.content.decode()
        assert page.headers["Content-Language"] == language


def test_sessions_are_listed_and_signed_out_one_or_all(world, settings):
    """A-03: a session that was ended here is nobody's at its next request; another person's cannot be ended."""
    settings.COUNTRY_HEADER = "X-Country"
    here = signed_in(**{"user-agent": "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0"})
    there = signed_in(**{"user-agent": "Mozilla/5.0 (iPhone) Version/18 Safari/604.1", "x-country": "nl"})
    more, alice = signed_in(), signed_in(ALICE)

    page = here.get("/settings/").content.decode()
    assert "Firefox on Windows" in page
    assert "Safari on iPhone" in page
    assert "NL · 127.0.0.1" in page
    theirs = UserSession.objects.get(session_key=alice.cookies["sessionid"].value)
    here.post("/settings/sessions/end/", {"session": theirs.pk})
    one = UserSession.objects.get(session_key=there.cookies["sessionid"].value)
    here.post("/settings/sessions/end/", {"session": one.pk})

    assert [client.get("/settings/").status_code for client in (here, there, more, alice)] == [200, 302, 200, 200]
    here.post("/settings/sessions/end/", {"session": "others"})
    assert [client.get("/settings/").status_code for client in (here, more, alice)] == [200, 302, 200]


def confirmed(user):
    EmailAddress.objects.update_or_create(user=user, email=user.email, defaults={"verified": True, "primary": True})


@pytest.mark.parametrize("name", ["bob", "staff"])
def test_who_set_up_a_second_step_gets_in_by_it_alone_staff_too(world, name, django_capture_on_commit_callbacks):
    user = getattr(world, name)
    confirmed(user)
    who = {"login": user.email, "password": factories.PASSWORD}
    here = signed_in(who)
    a_while_ago(here)
    page = here.get("/account/second-factor/totp/activate/", follow=True)
    assert "enter your password again" in page.content.decode()  # it was a while ago that this was proved
    page = here.post("/account/reauthenticate/?next=/account/second-factor/totp/activate/", {
        "password": factories.PASSWORD, "next": "/account/second-factor/totp/activate/"}, follow=True)  # fmt: skip
    secret = re.search(r"<code>(\w+)</code>", page.content.decode())[1]
    now = totp.format_hotp_value(totp.hotp_value(secret, next(iter(totp.yield_hotp_counters_from_time()))))
    arrived().clear()
    with django_capture_on_commit_callbacks(execute=True):
        codes = here.post("/account/second-factor/totp/activate/", {"code": now}, follow=True).content.decode()
    recovery = re.findall(r"<li>(\d{8})</li>", codes)

    assert len(recovery) == 10
    assert any("how you sign in" in mail.body for mail in arrived())  # nothing in the preferences keeps this away
    other = browser()
    first = other.post("/account/login/?next=/admin/", who)
    assert first.headers["Location"].startswith("/account/second-factor/authenticate/")
    for path in ("/settings/", "/admin/", "/c/"):
        assert other.get(path).status_code == 302
    wrong = other.post("/account/second-factor/authenticate/", {"code": "000000"})
    assert wrong.status_code == 200
    assert other.get("/admin/").status_code == 302
    assert other.post("/account/second-factor/authenticate/", {"code": recovery[0]}).status_code == 302
    assert other.get("/admin/" if name == "staff" else "/settings/").status_code == 200
    again = browser()
    again.post("/account/login/", who)
    again.post("/account/second-factor/authenticate/", {"code": recovery[0]})  # each works once
    assert again.get("/settings/").status_code == 302


def test_staff_are_asked_for_a_second_step_or_told_to_set_one_up(world, settings):
    staff = signed_in({"login": "staff@example.com", "password": factories.PASSWORD})

    assert "Set up a second step" in staff.get("/admin/").content.decode()
    settings.STAFF_NEED_MFA = True
    assert staff.get("/admin/").headers["Location"] == "/account/second-factor/"
    assert staff.get("/admin/accounts/user/").status_code == 302


def picture(size=(400, 300), kind="JPEG", **extra):
    made = io.BytesIO()
    Image.new("RGB", size, "teal").save(made, kind, **extra)
    return made.getvalue()


def test_a_picture_is_drawn_anew_and_shown_by_an_address_of_its_own(world, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "canary-place"
    bob = signed_in()

    sent = SimpleUploadedFile("../../me.jpg", picture(exif=exif), "image/svg+xml")
    assert bob.post("/settings/picture/", {"picture": sent}).status_code == 303
    address = profile_of(world.bob).avatar_url
    shown = browser().get(address)

    assert shown.headers["Content-Type"] == "image/webp"
    assert "immutable" in shown.headers["Cache-Control"]
    assert not shown.cookies
    assert "Cookie" not in shown.headers.get("Vary", "")
    assert b"canary" not in shown.content
    with Image.open(io.BytesIO(shown.content)) as stored:
        assert (stored.size, stored.format) == ((256, 256), "WEBP")
    assert address in bob.get("/c/").content.decode()
    bob.post("/settings/picture/", {"remove": "1"})
    assert profile_of(world.bob).avatar_url == ""


def black_png(width, height):
    """As Pillow would write it, without the gigabyte that Pillow needs for that."""

    def chunk(kind, content):
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    row, packer = bytes(1 + (width + 7) // 8), zlib.compressobj(1)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)  # one bit for a pixel
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_what_is_no_picture_or_too_large_a_one_is_refused_in_words(world):
    """F-16, F-17: a PNG of 30,000 × 30,000 pixels is refused by what it says of itself, before it is read."""
    bomb = black_png(30_000, 30_000)
    refused = [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF89a",
        bomb,
        picture()[:200],
        b"\x89PNG\r\n\x1a\n" * 9,
    ]
    for content in refused:
        with pytest.raises(BadPicture):
            drawn(io.BytesIO(content))

    answer = signed_in().post("/settings/picture/", {"picture": SimpleUploadedFile("a.svg", refused[1])})
    assert answer.status_code == 422
    assert "no SVG" in answer.content.decode()


def test_a_kind_of_notice_that_was_switched_off_rings_no_bell_and_sends_no_mail(world):
    def tell(kind, **more):
        notices.tell(world.act.pk, world.bob.pk, kind, title="A title", message="Words", **more)
        with scope(SERVICE):
            rung = Notification.objects.filter(owner_id=world.bob.pk, read_at=None).count()
            mailed = EmailLog.objects.filter(user=world.bob).count()
        return rung, mailed

    bob = signed_in()
    assert tell("usage_limit") == (1, 1)
    bob.post("/settings/notices/", {"kind": "usage_limit", "in_app": "on", "mail": "never"})
    assert tell("usage_limit") == (2, 1)
    bob.post("/settings/notices/", {"kind": "usage_limit", "mail": "at_once"}, headers=HTMX)
    assert tell("usage_limit") == (2, 2)
    bob.post("/settings/notices/", {"kind": "usage_limit", "mail": "weekly"})
    assert tell("usage_limit") == (2, 2)
    assert '<option value="weekly" selected>' in bob.get("/settings/").content.decode()
    assert tell("usage_limit", priority="urgent") == (3, 3)
    assert tell("billing_update") == (4, 4)  # another kind
    assert bob.post("/settings/notices/", {"kind": "new_wish"}).status_code == 400
    assert bob.post("/settings/notices/", {"kind": "system", "mail": "hourly"}).status_code == 400
    assert "A visitor left an address" not in bob.get("/settings/").content.decode()  # he does not run the brand
    assert "A visitor left an address" in signed_in(ALICE).get("/settings/").content.decode()


def everything():
    """Every row of every table as text, by table."""
    found = {}
    with scope(SERVICE), connection.cursor() as cursor:
        for name in tables(cursor):
            cursor.execute(f"select coalesce(string_agg(t::text, ' '), '') from \"{name}\" t")
            found[name] = cursor.fetchone()[0]
    return found


def test_who_deletes_the_account_is_found_nowhere_afterwards(world, django_capture_on_commit_callbacks):
    """O-17: a canary of everything that a person writes is gone from all tables and files; the books stay, without a name."""
    with scope(SERVICE):
        User.objects.filter(pk=world.bob.pk).update(email="canary-bob@example.com")
    world.bob.refresh_from_db()
    confirmed(world.bob)
    factories.make_conversation(world.act, world.bob, "canary title", said=[("user", "canary words")])
    who = {"login": "canary-bob@example.com", "password": factories.PASSWORD}
    bob = signed_in(who, **{"user-agent": "canary-agent"})
    for name in ("full_name", "company_name"):
        bob.post("/settings/change/", {"field": name, name: "canary"})
    bob.post("/settings/picture/", {"picture": SimpleUploadedFile("a.jpg", picture())})
    with scope(SERVICE):
        used = uuid7()
        ledger.reserve(world.act, asker=("user", world.bob.pk), amounts={"queries": 1}, reservation=used)
        ledger.settle(used, amounts={"queries": 1})
    notices.tell(world.act.pk, world.bob.pk, "system", title="canary", message="canary")
    key = profile_of(world.bob).avatar_key
    before = everything()
    assert {"conversations_message", "accounts_profile", "events_emaillog"} <= {
        n for n in before if "canary" in before[n]
    }

    a_while_ago(bob)
    assert bob.get("/settings/delete-account/").headers["Location"].startswith("/account/reauthenticate/")
    bob.post("/account/reauthenticate/", {"password": factories.PASSWORD})
    wrong = bob.post("/settings/delete-account/", {"email": "bob@example.com"})
    assert (wrong.status_code, "Nothing was deleted" in wrong.content.decode()) == (422, True)
    with django_capture_on_commit_callbacks(execute=True):
        gone = bob.post("/settings/delete-account/", {"email": " Canary-Bob@example.com "})

    assert (gone.status_code, "Your account is deleted" in gone.content.decode()) == (200, True)
    after = everything()
    assert [name for name in after if "canary" in after[name]] == []
    assert bob.get("/c/").status_code == 302
    assert browser().post("/account/login/", who).status_code == 200
    with pytest.raises(files.FileGone):
        files.open(key, brand_id=world.act.pk)
    for books in ("quotas_entry", "quotas_bucket"):
        assert after[books] == before[books] != ""
    assert str(world.alice.pk) in after["accounts_membership"]


def test_who_leaves_takes_nothing_along_that_is_somebody_elses(world, settings, django_capture_on_commit_callbacks):
    """O-17: a title that names another's file deletes no file, an address that was only claimed deletes no mail, and what an
    admin set up for the brand goes on without them."""
    settings.ENCRYPTION_KEYS = KeyRing.parse("1:" + "ab" * 32)
    with scope(SERVICE):
        hook = WebhookEndpoint(
            brand=world.act, user_id=world.bob.pk, name="Ours", url="https://hooks.example/", events=["*"]
        )
        hook.secret = signing.new_secret()
        hook.save()
    picture_of_alice = files.save(world.act.pk, "avatar", "a.webp", b"hers")
    factories.make_conversation(world.act, world.bob, picture_of_alice)
    with scope(SERVICE):
        EmailAddress.objects.create(user=world.bob, email="carol@example.com", verified=False)
        mail = EmailLog.objects.create(brand=world.act, to_email="carol@example.com", next_attempt_at=clock.now())

    with django_capture_on_commit_callbacks(execute=True):
        erasing.erase(User.objects.get(pk=world.bob.pk))

    with files.open(picture_of_alice, brand_id=world.act.pk) as kept:
        assert kept.read() == b"hers"
    with scope(SERVICE):
        assert EmailLog.objects.filter(pk=mail.pk).exists()
        assert WebhookEndpoint.objects.filter(pk=hook.pk, user=None, is_active=True).exists()


def test_the_last_owner_of_a_brand_and_staff_are_told_what_comes_first(world, capsys):
    for user, words in ((world.alice, "only owner of Act"), (world.staff, "You are staff")):
        with pytest.raises(erasing.NotYet, match=words):
            erasing.erase(user)
    with pytest.raises(CommandError, match="It could be done"):
        call_command("erase_person", "bob@example.com")
    with scope(SERVICE):
        Membership.objects.filter(user=world.bob).update(role="owner")

    call_command("erase_person", "alice@example.com", "--yes", "--json")

    assert str(world.alice.pk) in capsys.readouterr().out
    assert not User.objects.filter(email="alice@example.com").exists()


def test_a_brands_admin_sets_the_brand_and_its_log_says_what_was_before(world):
    alice, fields = signed_in(ALICE), ["name", "zone", "hue", "chroma", "roundness", "anonymous_allowance"]
    fields += ["anonymous_per_network", "anonymous_per_day"]
    brand = {name: getattr(world.act, name) for name in fields}
    embedding = next(row for row in offers.offers("embedding"))
    sent = {
        **brand,
        "name": "Acted",
        "hue": 20,
        "retention_days": 14,
        "models": [str(world.demo.pk)],
        "shown": [str(world.demo.pk), str(embedding.id), str(world.prompt.pk)],
        "sharing_on": "on",
    }

    refused = alice.post("/manage/settings/change/", {**sent, "models": [str(embedding.id)], "hue": 999})
    saved = alice.post("/manage/settings/change/", sent)
    brands.forget()

    assert refused.status_code == 422
    assert "Offer one model for chats at least" in refused.content.decode()
    assert saved.status_code == 303
    with scope(SERVICE):
        found = Brand.objects.get(pk=world.act.pk)
        line = Activity.objects.get(action="brand.changed")
        assert not SystemPrompt.objects.get(pk=world.prompt.pk).is_active
    assert (found.name, found.hue, found.retention_days, found.open_sign_up) == ("Acted", 20, 14, False)
    assert found.withheld_models == [embedding.id]
    assert line.changes["hue"] == [162, 20]
    assert line.changes["name"] == ["Act", "Acted"]
    assert line.actor_id == world.alice.pk
    assert signed_in().post("/manage/settings/change/", sent).status_code == 404
    with pytest.raises(offers.NoSuchModel):
        offers.offer("demo", without=[world.demo.pk])
    with scope(SERVICE):
        Brand.objects.filter(pk=world.act.pk).update(withheld_models=[world.demo.pk])
    brands.forget()
    assert alice.post("/c/send/", {"text": "hello", "provider": world.demo.pk}).status_code == 404


def test_saving_the_brand_leaves_what_its_page_did_not_show_as_it_is(world):
    """A model that rests stays withheld, and what staff add meanwhile stays on offer."""
    alice, resting = signed_in(ALICE), factories.make_provider("resting", is_active=False)
    fields = ["name", "zone", "hue", "chroma", "roundness"]
    fields += ["anonymous_allowance", "anonymous_per_network", "anonymous_per_day"]
    brand = {name: getattr(world.act, name) for name in fields}

    def page():
        offers.forget()
        text = alice.get("/manage/settings/").content.decode()
        return {
            **brand,
            "shown": re.findall(r'name="shown" value="([^"]+)"', text),
            **{name: re.findall(rf'name="{name}" value="([^"]+)" checked', text) for name in ("models", "prompts")},
        }

    def save(sent):
        offers.forget()
        assert alice.post("/manage/settings/change/", sent).status_code == 303
        with scope(SERVICE):
            return Brand.objects.get(pk=world.act.pk).withheld_models

    with scope(SERVICE):
        Brand.objects.filter(pk=world.act.pk).update(withheld_models=[resting.pk])
    sent = page()
    late, prompt = factories.make_provider("late"), factories.make_prompt(world.act, "Late")
    assert save({**sent, "hue": 20}) == [resting.pk]
    with scope(SERVICE):
        assert SystemPrompt.objects.get(pk=prompt.pk).is_active
        assert Activity.objects.get(action="brand.changed").changes.keys().isdisjoint({"models", "prompts"})
        AIProvider.objects.filter(pk=resting.pk).update(is_active=True)

    sent = page()
    assert str(resting.pk) in set(sent["shown"]) - set(sent["models"])
    assert save({**sent, "models": [*sent["models"], str(resting.pk)]}) == []
    assert save({**sent, "models": [str(world.demo.pk), str(resting.pk)], "shown": [str(late.pk)]}) == [late.pk]


@pytest.mark.parametrize("is_known", [True, False])
def test_an_account_elsewhere_opens_no_account_that_is_here_and_makes_a_new_one_whole(world, monkeypatch, is_known):
    """A-03, A-11: GitHub vouches for bob's address, and bob's account stays shut; a stranger becomes a member with a plan."""
    email = "bob@example.com" if is_known else "dora@example.com"

    def complete_login(self, request, app, token, **kwargs):
        told = {"id": 7, "login": "somebody", "name": "Somebody", "email": email}
        login = self.get_provider().sociallogin_from_response(request, told)
        login.email_addresses = [EmailAddress(email=email, verified=True, primary=True)]
        return login

    monkeypatch.setattr(GitHubOAuth2Adapter, "complete_login", complete_login)
    monkeypatch.setattr(OAuth2Client, "get_access_token", lambda *args, **kwargs: {"access_token": "t"})
    stranger = browser()

    away = stranger.post("/account/elsewhere/github/login/?next=//evil.example")
    state = parse_qs(urlsplit(away.headers["Location"]).query)["state"][0]
    forged = browser().get(f"/account/elsewhere/github/login/callback/?code=x&state={state}")
    back = stranger.get(f"/account/elsewhere/github/login/callback/?code=x&state={state}")

    assert away.headers["Location"].startswith("https://github.com/login/oauth/authorize?")
    assert forged.status_code in (401, 403)  # the state is of another browser
    assert "evil" not in back.headers.get("Location", "")
    assert (stranger.get("/settings/").status_code == 200) is not is_known
    assert SocialAccount.objects.filter(user=world.bob).count() == 0
    if not is_known:
        dora = User.objects.get(email=email)
        with scope(SERVICE):
            assert Membership.objects.filter(user=dora, brand=world.act).exists()
            assert Account.objects.filter(owner_id=dora.pk, brand=world.act).exists()
            assert profile_of(dora).language == "en"
        assert not dora.has_usable_password()


def test_dates_are_read_in_ones_own_zone(world):
    bob = signed_in()
    notices.notify(world.act.pk, world.bob.pk, "system", title="A title", message="Words")
    with scope(SERVICE):
        at = Notification.objects.get(owner_id=world.bob.pk).created_at

    for zone in ("UTC", "Asia/Tokyo"):
        bob.post("/settings/change/", {"field": "zone", "zone": zone})
        assert f"{at.astimezone(ZoneInfo(zone)):%H:%M}</time>" in bob.get("/notifications/").content.decode()
    assert bob.get("/settings/keys/").status_code == bob.get("/history/").status_code == 200


def test_a_picture_or_a_file_of_chats_gets_in_for_who_is_signed_in(world):
    """A cookie of that name is not enough: whose it is, is looked up before the body is taken."""
    client = Client()
    client.force_login(world.bob)
    session = f"sessionid={client.session.session_key}".encode()

    async def receive():
        return {"body": b"x"}

    def ask(cookie, path="/settings/picture/", size=MOST_BYTES):
        headers = [(b"content-length", str(size).encode()), (b"cookie", cookie)]
        return async_to_sync(asgi._bounded({"path": path, "headers": headers}, receive))()

    assert ask(session) == {"body": b"x"}
    assert ask(session, "/import/", unwrapping.MOST_BYTES) == {"body": b"x"}
    assert ask(b"", size=1000) == {"body": b"x"}
    for cookie in (b"", b"sessionid=abc", b'sessionid="\\000"', b"other=1"):
        with pytest.raises(asgi._TooMuch):
            ask(cookie)
    with pytest.raises(asgi._TooMuch):
        ask(session, "/import/", unwrapping.MOST_BYTES * 2)
    with pytest.raises(asgi._TooMuch):
        ask(session, "/c/", unwrapping.MOST_BYTES)
