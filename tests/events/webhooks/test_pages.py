"""What a brand's admins do on /manage/webhooks/, and the rules behind it. No sender runs here."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.test import Client
from standardwebhooks import Webhook

from accounts.models import Brand
from events import tasks
from events.models import Activity, Event, WebhookDelivery, WebhookEndpoint
from events.webhooks import custom_headers, endpoints, outcomes, queueing, schedule, signing
from lib import clock, egress
from lib.db import SERVICE, Principal, scope
from lib.errors import Conflict, Invalid
from lib.ids import first_at, uuid7
from lib.keyring import KeyRing
from lib.secret import Secret
from providers import resealing
from tests.events.webhooks.conftest import RING

pytestmark = pytest.mark.django_db
NOON = datetime(2030, 6, 12, 12, tzinfo=UTC)
FORM = {
    "name": "Slack",
    "url": "https://hooks.example/x",
    "events": ["conversation.*"],
    "retry_failed": "on",
    "max_retries": "9",
}


@pytest.fixture
def browser(world, settings):
    settings.EGRESS_ALLOW = ["hooks.example:443", "hooks.example:80", "other.example:443"]
    client = Client(headers={"host": "act.localhost"})
    client.force_login(world.alice)
    return client


def only_hook():
    with scope(SERVICE):
        return WebhookEndpoint.objects.get()


def test_a_webhook_is_made_changed_rotated_paused_and_deleted(browser, world):
    """W-14: the secret is on one page, once. A-16: neither it nor a header's value is in the audit log."""
    assert "Nothing is told to anybody yet" in browser.get("/manage/webhooks/").content.decode()
    assert "conversation.started" in browser.get("/manage/webhooks/new/").content.decode()

    headers = "X-Team: seven\r\nAuthorization: Bearer canary-1234567"
    once = {"headers": headers, "once": str(uuid7())}
    made = browser.post("/manage/webhooks/make/", FORM | once)
    twice = browser.post("/manage/webhooks/make/", FORM | once, follow=True)
    hook = only_hook()
    assert "This webhook was made already" in twice.content.decode()
    assert hook.secret.reveal() not in twice.content.decode()
    page, first = f"/manage/webhooks/{hook.pk}/", hook.secret.reveal()
    assert first in made.content.decode()
    shown = browser.get(page).content.decode()
    assert first not in shown
    assert "canary" not in shown
    assert "Authorization: ••••" in shown
    assert (hook.name, hook.events, hook.user_id) == ("Slack", ["conversation.*"], world.alice.pk)

    form = browser.get(f"{page}change/").content.decode()
    assert "Authorization: ••••" in form
    kept = "Authorization: ••••\r\nX-Team: eight"
    saved = browser.post(f"{page}save/", FORM | {"name": "Zapier", "events": ["*"], "headers": kept})
    assert saved.status_code == 303
    hook = only_hook()
    sealed = {"Authorization": "Bearer canary-1234567", "X-Team": "eight"}
    assert custom_headers.opened(hook.custom_headers) == sealed
    for url in ("https://other.example/x", "http://hooks.example/x"):  # a server that was not given these values
        assert browser.post(f"{page}save/", FORM | {"url": url, "headers": kept}).status_code == 422
        alone = endpoints.Wanted(name="A", url=url, events=["*"])
        with pytest.raises(Invalid):
            endpoints.change(Principal("app_brand", world.act.pk, world.alice.pk), hook.pk, alone)
    hook = only_hook()
    assert (hook.url, custom_headers.opened(hook.custom_headers)) == (FORM["url"], sealed)
    rotated = browser.post(f"{page}do/", {"do": "rotate"}).content.decode()
    hook = only_hook()
    assert hook.secret.reveal() in rotated
    assert f'href="{page}?show=failed"' in rotated, "this page's own address answers no GET"
    again = browser.post(f"{page}do/", {"do": "rotate", "seen": ""}, follow=True)  # loaded again, and sent again
    assert "A new secret was made since" in again.content.decode()
    hook = only_hook()
    assert hook.old_secret.reveal() == first
    form = browser.get(f"{page}change/").content.decode()
    assert "notification." not in form, "webhooks hear nothing of one person's notices"

    browser.post(f"{page}do/", {"do": "test"})
    assert "webhook.test" in browser.get(page).content.decode()
    with scope(SERVICE):
        delivery = WebhookDelivery.objects.get()
    body = browser.get(f"/manage/webhooks/deliveries/{delivery.pk}/").content.decode()
    assert "This is a test. Nothing happened." in body
    browser.post(f"{page}do/", {"do": "off"})
    assert "Cancelled" in browser.get(f"{page}?show=failed").content.decode()
    browser.post(f"{page}do/", {"do": "replay", "failed_only": "on"})  # refused: it is off
    refused = browser.get(page).content.decode()
    assert "This webhook is switched off. Switch it on first." in refused
    browser.post(f"{page}do/", {"do": "on"})
    sent = browser.post(f"{page}do/", {"do": "replay", "failed_only": "on", "since": "2020-01-01T00:00"})
    assert "0 of 1 have arrived" in browser.get(sent["location"]).content.decode()
    for odd in ("yesterday", "2026-13-45T00:00"):
        assert browser.post(f"{page}do/", {"do": "replay", "since": odd}).status_code == 303
        assert "year-month-day" in browser.get(page).content.decode()
    for odd in ("?before=x&show=x&sent=x", "?sent=20260101T000000.000000"):
        assert browser.get(page + odd).status_code == 200
    assert "Slack" not in browser.get("/manage/webhooks/").content.decode()

    browser.post(f"{page}do/", {"do": "delete"})
    with scope(SERVICE):
        assert not WebhookDelivery.objects.exists()
        log = list(Activity.objects.filter(resource_type="webhook").order_by("id"))
    assert [line.action.partition(".")[2] for line in log] == [
        "created", "changed", "secret_rotated", "switched_off", "switched_on", "sent_again", "deleted",
    ]  # fmt: skip
    assert not any("canary" in str(line.changes) or "whsec" in str(line.changes) for line in log)
    assert browser.get(page).status_code == 404


def test_what_cannot_be_is_refused_in_words_and_what_was_typed_stays(browser, world, settings):
    """W-01, W-07, W-15, W-20, W-21: nothing is stored."""
    settings.OPENAI_BASE_URL, settings.ANTHROPIC_BASE_URL = "http://10.0.0.5:8000/v1", "http://127.0.0.1:4000"
    with scope(SERVICE):
        Brand.objects.filter(pk=world.globex.pk).update(domain="chat.globex.example")
    cases = [
        ({"url": "https://127.0.0.1/"}, "This address is ours"),
        ({"url": "https://10.0.0.1/"}, "This address cannot be used"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "This address cannot be used"),
        ({"url": "http://10.0.0.5:8000/v1/models"}, "This address cannot be used"),
        ({"url": "http://127.0.0.1:4000/v1/messages"}, "This address is ours"),
        ({"url": "https://user:password@hooks.example/"}, "This address cannot be used"),
        ({"url": "file:///etc/passwd"}, "This address cannot be used"),
        ({"url": "https://hooks.example:22/"}, "This address cannot be used"),
        ({"url": "https://hooks.example/" + "x" * 1000}, "This address cannot be used"),
        ({"url": "https://act.localhost/api/v1/chat"}, "This address is ours"),
        ({"url": "https://chat.globex.example/"}, "This address is ours"),
        ({"name": " "}, "Give the webhook a name"),
        ({"name": "\0"}, "Give the webhook a name"),
        ({"events": []}, "Choose at least one event"),
        ({"events": ["conversation.strated"]}, "There is no event conversation.strated"),
        ({"events": ["notification.read"]}, "There is no event notification.read"),
        ({"events": ["notifications.*"]}, "There is no event notifications.*"),
        ({"max_retries": "10"}, "Between 0 and 9 retries"),
        ({"headers": "Host: evil"}, "The header Host is set by us"),
        ({"headers": "webhook-id: 1"}, "The header webhook-id is set by us"),
        ({"headers": "no colon"}, "Write each header on a line of its own"),
    ]
    for wrong, words in cases:
        refused = browser.post("/manage/webhooks/make/", FORM | wrong)
        assert refused.status_code == 422, wrong
        assert words in refused.content.decode(), wrong
    assert 'value="Slack"' in refused.content.decode()
    with scope(SERVICE):
        assert not WebhookEndpoint.objects.exists()


def test_headers_that_http_or_the_signature_set_cannot_be_chosen():
    """W-15"""
    for name in (
        *("Host", "content-length", "Content-Type", "Transfer-Encoding", "Connection", "Cookie", "webhook-signature"),
        *("Proxy-Authorization", "X-Forwarded-For", "Expect", "TE", "Upgrade", "User-Agent", "Accept-Encoding"),
    ):
        with pytest.raises(Invalid):
            custom_headers.parse(f"{name}: x")
    for line in (
        "X-A: b\rHost: evil",
        "X A: b",
        "X-A: \u00e9",
        "X-A:",
        "X-A: b\nx-a: c",
        "X-A: " + "b" * 1001,
        "X-A: ••••",
    ):
        with pytest.raises(Invalid):
            custom_headers.parse(line)
    assert custom_headers.parse(" \r\n") is None
    assert custom_headers.opened(custom_headers.parse("X-A: b: c")) == {"X-A": "b: c"}


def test_tries_follow_the_schedule_and_a_receiver_that_asks_for_more_time_gets_it():
    """W-12"""
    hours = [5 / 3600, 5 / 60, 0.5, 2, 5, 10, 14, 20, 24]
    for tries, pause in enumerate(hours, 1):
        at = schedule.next_at(tries, most_retries=9, now=NOON)
        assert timedelta(hours=pause) <= at - NOON <= timedelta(hours=pause * 1.1)
    assert schedule.next_at(10, most_retries=9, now=NOON) is None
    assert schedule.next_at(1, most_retries=0, now=NOON) is None
    assert schedule.next_at(4, most_retries=3, now=NOON) is None
    assert schedule.next_at(1, most_retries=9, now=NOON, wished=timedelta(hours=3)) >= NOON + timedelta(hours=3)
    assert schedule.next_at(1, most_retries=9, now=NOON, wished=timedelta(days=99)) <= NOON + timedelta(hours=26.4)
    for said, wished in (
        *(("7", 7), ("Wed, 12 Jun 2030 12:01:00 GMT", 60), ("soon", None), ("-1", None), ("", None)),
        # What no number and no clock can hold would stop the sender of all brands.
        *(("9" * 5000, 10**6), ("Fri, 31 Dec 99999999999999 23:59:59 GMT", None)),
        ("Fri, 31 Dec 2026 23:59:59 +99999999999999999999", None),
    ):
        answer = egress.Answer(429, {"Retry-After": said}, b"")
        assert outcomes._wished(answer, NOON) == (None if wished is None else timedelta(seconds=wished))


def test_a_signature_is_judged_in_words_as_the_official_library_judges_it(browser):
    """W-13: ASCII, emoji, 20 kB."""
    secret, now = signing.new_secret(), clock.now()
    for text in ('{"a":1}', '{"a":"😀"}', '{"a":"' + "x" * 20_000 + '"}'):
        headers = signing.headers("msg_1", at=now, body=text.encode(), secrets=[secret, signing.new_secret()])
        assert Webhook(secret.reveal()).verify(text, headers)
        assert signing.judge(text.encode(), headers, secret.reveal(), now=now).holds

    def judged(change=(), body="{}", known=secret):
        headers = signing.headers("msg_1", at=now, body=b"{}", secrets=[secret]) | dict(change)
        return signing.judge(body.encode(), headers, known.reveal(), now=now)

    for verdict, words in (
        (judged(body="{ }"), "The signature does not fit"),
        (judged({"webhook-id": "msg_2"}), "The signature does not fit"),
        (judged({"webhook-timestamp": "1"}), "The signature does not fit"),
        (judged({"webhook-timestamp": "now"}), "not a number"),
        (judged({"webhook-signature": "v2,abc"}), "no signature that begins"),
        (judged({"webhook-id": ""}), "These headers are missing: webhook-id."),
        (judged(known=signing.new_secret()), "The signature does not fit"),
        (judged(known=Secret("whsec_short")), "This is no signing secret"),
    ):
        assert not verdict.holds
        assert words in verdict.why
    old = signing.headers("msg_1", at=NOON, body=b"{}", secrets=[secret])
    assert "over five minutes old" in signing.judge(b"{}", old, secret.reveal(), now=now).why

    signed = signing.headers("a", at=now, body=b"{}", secrets=[secret])
    pasted = "\r\n".join(f"{name}: {value}" for name, value in signed.items())
    page = browser.post("/manage/webhooks/signature/", {"headers": pasted, "body": "{}", "secret": secret.reveal()})
    assert "The signature holds." in page.content.decode()
    assert secret.reveal() not in page.content.decode()


def test_an_event_of_another_release_stops_nobody_s_webhooks():
    """While two releases run side by side, and after one was taken back."""
    everything = WebhookEndpoint(events=["*"], created_at=NOON)
    heard = ("member.of_tomorrow", False), ("member.joined", True), ("notification.created", False)

    for name, is_wanted in heard:
        assert queueing.wants(everything, Event(type=name, data={}, created_at=NOON)) is is_wanted, name


def test_a_webhook_that_leads_back_to_us_is_refused_before_it_does_anything(browser, world):
    """W-20: by whatever name, and whatever key it brings."""
    sent = {"user-agent": egress.WEBHOOK_AGENT, "webhook-id": str(uuid7())}

    answer = browser.post("/api/v1/chat", b"{}", content_type="application/json", headers=sent)

    assert (answer.status_code, answer.json()["code"]) == (508, "loop_detected")


def test_secrets_and_headers_are_sealed_anew_with_members_keys(world, settings):
    """A-15: each column by itself, because each was sealed when it was changed."""
    settings.EGRESS_ALLOW = ["hooks.example:443", "hooks.example:80", "other.example:443"]
    alice = Principal("app_brand", world.act.pk, world.alice.pk)
    made, secret = endpoints.make(
        alice, endpoints.Wanted(name="A", url=FORM["url"], events=["*"], headers="X-Token: canary-7")
    )
    settings.ENCRYPTION_KEYS = KeyRing.parse("2:" + "cd" * 32 + "," + RING)
    newer = endpoints.rotate(alice, made.pk)

    assert resealing.by_key() == {"2": 2, "1": 1}
    assert resealing.reseal().resealed == 1
    newest = endpoints.rotate(alice, made.pk)
    settings.ENCRYPTION_KEYS = KeyRing.parse("3:" + "ef" * 32 + ",2:" + "cd" * 32)
    assert resealing.by_key() == {"2": 4}
    assert resealing.reseal().resealed == 4
    settings.ENCRYPTION_KEYS = KeyRing.parse("3:" + "ef" * 32)
    hook = only_hook()
    assert hook.secret == newest
    assert [known for known, _until in endpoints.replaced(hook, clock.now())] == [newer.reveal(), secret.reveal()]
    assert custom_headers.opened(hook.custom_headers) == {"X-Token": "canary-7"}


def test_a_brand_has_fifty_at_most(browser, world):
    alice = Principal("app_brand", world.act.pk, world.alice.pk)
    wanted = endpoints.Wanted(name="A", url=FORM["url"], events=["*"])
    for _ in range(endpoints.MOST):
        endpoints.make(alice, wanted)

    assert "at most 50 webhooks" in browser.post("/manage/webhooks/make/", FORM).content.decode()
    assert "as many webhooks as a brand can have" in browser.get("/manage/webhooks/").content.decode()


def test_headers_stay_with_their_server_though_two_change_a_webhook_at_once(browser, world):
    """A-16: what was checked before somebody led it elsewhere is not stored behind them."""
    alice = Principal("app_brand", world.act.pk, world.alice.pk)
    wanted = {"name": "A", "events": ["*"], "retry_failed": True, "max_retries": 9}
    hook, _ = endpoints.make(alice, endpoints.Wanted(url=FORM["url"], headers="X-Key: canary-7654321", **wanted))
    kept = endpoints.checked_change(alice, hook.pk, endpoints.Wanted(url=FORM["url"], headers="X-Key: ••••", **wanted))
    endpoints.change(alice, hook.pk, endpoints.Wanted(url="https://other.example/x", headers="", **wanted))

    with pytest.raises(Conflict):
        endpoints.store_change(alice, hook.pk, *kept)

    assert (only_hook().url, custom_headers.opened(only_hook().custom_headers)) == ("https://other.example/x", {})


def test_the_log_says_which_server_a_webhook_leads_to_and_no_more_of_its_address(browser, world):
    """A-16: what follows is a key of its own at Slack, Zapier and others, and readers of the log manage no webhooks."""
    alice = Principal("app_brand", world.act.pk, world.alice.pk)
    hook, _ = endpoints.make(
        alice, endpoints.Wanted(name="A", url="https://hooks.example/services/canary", events=["*"])
    )
    for url in ("https://hooks.example/services/other?sig=canary", "https://other.example/canary"):
        endpoints.change(alice, hook.pk, endpoints.Wanted(name="A", url=url, events=["*"]))
    endpoints.delete(alice, hook.pk)

    with scope(SERVICE):
        log = [line.changes["url"] for line in Activity.objects.filter(resource_id=hook.pk).order_by("id")]
    assert log == [
        [None, "https://hooks.example"],
        ["[hidden]", "[hidden]"],
        ["https://hooks.example", "https://other.example"],
        ["https://other.example", None],
    ]


def test_all_that_is_older_than_thirty_days_is_forgotten_in_one_run_however_much_that_is(world, settings):
    settings.EGRESS_ALLOW = ["hooks.example:443"]
    alice = Principal("app_brand", world.act.pk, world.alice.pk)
    hook, _ = endpoints.make(alice, endpoints.Wanted(name="A", url=FORM["url"], events=["*"]))
    long_ago = first_at(clock.now() - timedelta(days=31)).int

    def sent(status, pk):
        of = {
            "brand": world.act,
            "webhook": hook,
            "message_id": uuid7(),
            "event_type": "webhook.test",
            "event_data": {},
        }
        return WebhookDelivery(pk=pk, status=status, **of)

    kept = [sent("pending", UUID(int=long_ago)), sent("delivered", uuid7()), sent("failed", uuid7())]
    with scope(SERVICE):
        WebhookDelivery.objects.bulk_create(
            [*kept, *(sent("delivered", UUID(int=long_ago + number)) for number in range(1, 10_002))]
        )

    assert tasks.forget_old_deliveries() == 10_001
    with scope(SERVICE):
        assert set(WebhookDelivery.objects.values_list("pk", flat=True)) == {one.pk for one in kept}
