"""What a mail provider reports: proved, in any order, any number of times, and what follows for the address."""

import base64
import hashlib
import hmac
import itertools
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.mail.backends.locmem import EmailBackend
from django.test import Client
from standardwebhooks import Webhook

from events import mail, postman
from events.delivery import blocked, reports, sns
from events.delivery.reports import Became, Report
from events.models import BlockedAddress, EmailLog
from lib import clock
from lib.db import SERVICE, scope
from lib.ids import uuid7
from tests import factories
from tests.events.webhooks.receiver import Receiver
from tests.post import arrived

pytestmark = pytest.mark.django_db
NOTICE = {"title": "Your plan", "message": "It changed.", "path": "", "action_label": ""}
KEY = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:mails"
SIGNS = ec.generate_private_key(ec.SECP256R1())
PUBLIC = base64.b64encode(SIGNS.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
AT = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)


def write(world, to="bob@example.com", template="mail/notice", **options):
    return mail.send(world.act.pk, to, template, NOTICE, user_id=world.bob.pk, **options)


def sent(world):
    row = write(world)
    arrived()
    return logged(row)


def logged(row):
    with scope(SERVICE):
        return EmailLog.objects.get(pk=row.pk)


def postmark(row, kind, said=None):
    record = {
        "delivered": "Delivery",
        "opened": "Open",
        "clicked": "Click",
        "bounced": "Bounce",
        "complained": "SpamComplaint",
    }
    body = {"RecordType": record[kind], "MessageID": "x", "Recipient": row.to_email, "Metadata": {"mail": str(row.pk)}}
    body |= {
        "DeliveredAt": AT.isoformat(),
        "Type": "HardBounce" if kind == "bounced" else "SpamComplaint",
        **(said or {}),
    }
    return json.dumps(body), {"authorization": "Basic " + base64.b64encode(b"us:" + KEY.encode()).decode()}


def mailgun(row, kind):
    name = {"bounced": "failed"}.get(kind, kind)
    proof = hmac.new(KEY.encode(), b"1793611800token", hashlib.sha256).hexdigest()
    told = {
        "event": name,
        "severity": "permanent",
        "reason": "bounce",
        "timestamp": AT.timestamp(),
        "recipient": row.to_email,
    }
    told["message"] = {"headers": {"message-id": row.provider_message_id.strip("<>")}}  # no id of ours: by SMTP
    return json.dumps(
        {"signature": {"timestamp": "1793611800", "token": "token", "signature": proof}, "event-data": told}
    ), {}


def mailersend(row, kind):
    name = {"bounced": "hard_bounced", "complained": "spam_complaint"}.get(kind, kind)
    body = json.dumps({
        "type": f"activity.{name}", "created_at": AT.isoformat(),
        "data": {"id": "1", "type": name, "created_at": AT.isoformat(), "email": {
            "message": {"id": row.provider_message_id}, "recipient": {"email": row.to_email}, "tags": None}},
    })  # fmt: skip
    return body, {"signature": hmac.new(KEY.encode(), body.encode(), hashlib.sha256).hexdigest()}


def resend(row, kind):
    ours = {"name": "X-Metadata", "value": json.dumps({"mail": str(row.pk)})}
    body = {
        "type": f"email.{kind}",
        "created_at": AT.isoformat(),
        "data": {"email_id": "x", "to": [row.to_email], "headers": [ours]},
    }
    if kind == "bounced":
        body["data"]["bounce"] = {"message": "sent a hard bounce message", "type": "Permanent"}
    text, now = json.dumps(body), datetime.now(UTC)
    proof = Webhook(KEY).sign("msg_1", now, text)
    return text, {"svix-id": "msg_1", "svix-timestamp": str(int(now.timestamp())), "svix-signature": proof}


def sendgrid(row, kind):
    name = {
        "delivered": "delivered",
        "opened": "open",
        "clicked": "click",
        "bounced": "bounce",
        "complained": "spamreport",
    }
    told = {"event": name[kind], "email": row.to_email, "timestamp": int(AT.timestamp()), "sg_event_id": "x"}
    body = json.dumps([told | {"mail": str(row.pk), "type": "bounce", "reason": "550 no such user"}])
    proof = SIGNS.sign(b"1793611800" + body.encode(), ec.ECDSA(hashes.SHA256()))
    named = "x-twilio-email-event-webhook-"
    return body, {f"{named}timestamp": "1793611800", f"{named}signature": base64.b64encode(proof).decode()}


def amazon_ses(row, kind):
    """By SNS, with the headers of the mail as it went out."""
    ours = next(one.extra_headers for one in arrived() if str(row.pk) in one.extra_headers["Message-ID"])
    name, told = {
        "delivered": ("Delivery", {"recipients": [row.to_email], "smtpResponse": "250 ok"}),
        "opened": ("Open", {}),
        "clicked": ("Click", {"link": "https://act.localhost/"}),
        "complained": ("Complaint", {"complainedRecipients": [{"emailAddress": row.to_email}]}),
        "bounced": ("Bounce", {
            "bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": [{"emailAddress": row.to_email}],
        }),
    }[kind]  # fmt: skip
    headers = [{"name": "X-Metadata", "value": ours["X-Metadata"]}]
    event = {"eventType": name, "mail": {"messageId": "x", "destination": [row.to_email], "headers": headers}}
    return from_sns("Notification", Message=json.dumps(event | {name.lower(): told}), Timestamp=AT.isoformat())


def from_sns(kind, **told):
    body = json.dumps({"Type": kind, "MessageId": "n-1234567890", "TopicArn": TOPIC, **told})
    named = {"x-amz-sns-message-type": kind, "x-amz-sns-message-id": "n-1234567890"}
    return body, named | {"authorization": "Basic " + base64.b64encode(b"us:" + KEY.encode()).decode()}


WAYS = {
    "postmark": postmark,
    "mailgun": mailgun,
    "mailersend": mailersend,
    "resend": resend,
    "sendgrid": sendgrid,
    "amazon_ses": amazon_ses,
}


def call(provider, body, headers, **more):
    client = Client(headers={"host": "act.localhost", **headers})
    return client.post(f"/mail/reports/{provider}/", body, content_type="application/json", **more)


def setting_up(settings, provider):
    settings.EMAIL_PROVIDER = provider
    secrets = {"postmark": f"us:{KEY}", "amazon_ses": f"us:{KEY}", "sendgrid": PUBLIC}
    settings.EMAIL_WEBHOOK_SECRET = secrets.get(provider, KEY)


def test_each_provider_s_reports_reach_their_mail_and_a_stranger_s_none(world, settings):
    """W-13's rule for what comes in: whoever cannot prove it is the provider changes nothing, and learns nothing."""
    for provider, said in WAYS.items():
        setting_up(settings, provider)
        row = sent(world)
        for kind in ("delivered", "opened", "clicked", "bounced", "complained"):
            body, headers = said(row, kind)
            forged = {name: value[:-8] + "AAAAAAA=" for name, value in headers.items()}
            lied = body.replace('"signature": "', '"signature": "0') if provider == "mailgun" else body
            before = logged(row)

            assert call(provider, lied, forged).status_code == 400, (provider, kind)
            assert call(provider, lied, {}).status_code == (401 if provider == "amazon_ses" else 400), (provider, kind)
            assert logged(row).status == before.status

            answer = call(provider, body, headers)
            assert (answer.status_code, answer.json()) == (200, {"received": 1, "known": 1}), (provider, kind)
            assert logged(row).status == kind, provider
        moments = logged(row)
        assert moments.delivered_at == AT
        assert moments.opened_at
        assert moments.clicked_at
        with scope(SERVICE):
            assert BlockedAddress.objects.get().reason == "bounced"  # the first reason stays
            BlockedAddress.objects.all().delete()


def test_who_is_not_set_up_has_no_address_and_nonsense_is_refused(world, settings):
    row = sent(world)
    body, headers = postmark(row, "delivered")
    assert call("postmark", body, headers).status_code == 404
    setting_up(settings, "postmark")
    settings.EMAIL_WEBHOOK_SECRET = ""  # nobody could prove anything
    assert call("postmark", body, headers).status_code == 404

    setting_up(settings, "postmark")
    assert call("mailgun", body, headers).status_code == 404
    for nonsense in (
        "",
        "[]",
        "7",
        '"x"',
        "{",
        "\x00",
        '{"RecordType": ["Bounce"]}',
        '{"RecordType": "Inbound"}',
        "{}",
    ):
        assert call("postmark", nonsense, headers).status_code in (200, 400), nonsense
    assert logged(row).status == "sent"
    for provider in WAYS:  # read before anybody has proved anything
        setting_up(settings, provider)
        for nonsense in ('{"signature": "x"}', "[]", '{"signature": {"token": [], "timestamp": {}}}', "[" * 100_000):
            headers = from_sns("x")[1] if provider == "amazon_ses" else {}
            assert call(provider, nonsense, headers).status_code == 400, (provider, nonsense[:40])
    setting_up(settings, "postmark")
    answer = call("postmark", *postmark(EmailLog(pk=uuid7(), to_email="x@example.com"), "bounced"))
    assert (answer.status_code, answer.json()) == (200, {"received": 1, "known": 0})
    with scope(SERVICE):
        assert not BlockedAddress.objects.exists()


def test_a_topic_of_sns_is_subscribed_once_it_has_logged_in_and_what_may_arrive_later_blocks_nothing(
    world, settings, monkeypatch
):
    """Amazon sends no password before it was asked for one; then it asks whether its topic may report here."""
    setting_up(settings, "amazon_ses")
    body, headers = from_sns("SubscriptionConfirmation", Token="t-1")
    asked = call("amazon_ses", body, {})
    assert (asked.status_code, asked["WWW-Authenticate"]) == (401, 'Basic realm="reports"')
    with Receiver() as amazon:
        settings.EGRESS_ALLOW = [f"127.0.0.1:{amazon.port}"]
        monkeypatch.setattr(sns, "HOME", amazon.url("ok/{region}.{domain}/"))
        wrong = headers | {"authorization": "Basic " + base64.b64encode(b"us:other").decode()}
        assert call("amazon_ses", body, wrong).status_code == 400
        elsewhere = from_sns("SubscriptionConfirmation", Token="t-1", TopicArn="arn:aws:sns:evil.example/#:1:x")
        assert call("amazon_ses", *elsewhere).status_code == 400
        assert amazon.got == []

        assert call("amazon_ses", body, headers).status_code == 200
        (confirmed,) = amazon.got
        assert confirmed.path == "/ok/eu-west-1.amazonaws.com/"
        told = dict(parse_qsl(confirmed.body.decode()))
        assert told == {
            "Action": "ConfirmSubscription", "Version": "2010-03-31", "TopicArn": TOPIC, "Token": "t-1"
        }  # fmt: skip
        monkeypatch.setattr(sns, "HOME", amazon.url("500"))
        assert call("amazon_ses", body, headers).status_code == 503, "so that it asks again"

    row = sent(world)
    full = amazon_ses(row, "bounced")
    assert call("amazon_ses", full[0].replace("Permanent", "Transient"), full[1]).json()["known"] == 1
    assert (logged(row).status, blocked.of(row.to_email)) == ("bounced", None)
    setting_up(settings, "sendgrid")
    settings.EMAIL_WEBHOOK_SECRET = "no key"
    assert call("sendgrid", *sendgrid(row, "opened")).status_code == 400, "nobody can prove anything by it"


def test_reports_may_come_in_any_order_and_twice(world):
    """Never back from clicked to delivered: whatever comes when, the row says the same in the end."""
    later = AT + timedelta(minutes=5)
    told = [
        {"became": Became.DELIVERED, "at": AT},
        {"became": Became.OPENED, "at": AT},
        {"became": Became.OPENED, "at": later},
        {"became": Became.CLICKED, "at": later},
    ]
    ends = set()
    row = sent(world)
    for order in itertools.permutations(told):
        with scope(SERVICE):
            EmailLog.objects.filter(pk=row.pk).update(status="sent", delivered_at=None, opened_at=None, clicked_at=None)
        for each in [*order, *order]:
            assert reports.apply(Report(mail_id=row.pk, **each))
        end = logged(row)
        ends.add((end.status, end.delivered_at, end.opened_at, end.clicked_at))
    assert ends == {("clicked", AT, AT, later)}


def test_a_report_that_is_faster_than_the_postman_keeps_the_mail_from_being_sent_twice(world, monkeypatch):
    """The provider reports before the worker has written down that it left; and the worker that died never writes it."""
    real = EmailBackend.send_messages

    def at_once(self, messages):
        (message,) = messages
        reports.apply(Report(mail_id=row.pk, became=Became.DELIVERED, at=AT))
        return real(self, [message])

    monkeypatch.setattr(EmailBackend, "send_messages", at_once)
    row = write(world)
    arrived()
    end = logged(row)
    assert (end.status, end.delivered_at, bool(end.sent_at), end.provider) == ("delivered", AT, True, "locmem")
    assert end.provider_message_id == f"<{row.pk}@act.localhost>"


def test_what_may_arrive_another_time_blocks_nothing(world, settings):
    setting_up(settings, "postmark")
    row = sent(world)
    call("postmark", *postmark(row, "bounced", {"Type": "Transient", "Description": "box is full"}))
    assert (logged(row).status, logged(row).error) == ("sent", "box is full")
    call("postmark", *postmark(row, "bounced", {"Type": "SoftBounce"}))
    assert logged(row).status == "bounced"
    assert blocked.of(row.to_email) is None


def test_a_blocked_address_gets_nothing_but_what_lets_its_person_in(world, settings):
    setting_up(settings, "postmark")
    first = sent(world)
    call("postmark", *postmark(first, "bounced", {"Details": "550 no such user"}))
    held, reset = write(world, to="Bob@Example.com"), write(world, template="account/email/password_changed")

    assert len(arrived()) == 2  # the first one, and the one about signing in
    assert (logged(held).status, logged(held).attempts) == ("suppressed", 1)
    assert "came back" in logged(held).error
    assert logged(reset).status == "sent"
    assert blocked.of("BOB@example.com").detail == "550 no such user"

    # Its person is told, and has it tried again, once a day.
    bob = Client(headers={"host": "act.localhost"})
    bob.post("/account/login/", {"login": "bob@example.com", "password": factories.PASSWORD})
    assert "A mail to this address came back" in bob.get("/settings/").content.decode()
    assert bob.post("/settings/address/again/").status_code == 303
    assert "A mail to this address came back" not in bob.get("/settings/").content.decode()
    call("postmark", *postmark(first, "bounced"))  # the same report once more is about what was before
    assert blocked.of("bob@example.com") is None
    again = write(world)
    assert len(arrived()) == 3
    reports.apply(Report(mail_id=again.pk, became=Became.BOUNCED, at=clock.now(), blocks=blocked.Reason.BOUNCED))
    assert blocked.of("bob@example.com")
    page = bob.post("/settings/address/again/", follow=True).content.decode()
    assert "less than a day ago" in page
    assert blocked.of("bob@example.com")
    assert blocked.lift("bob@example.com", by=world.staff.pk)  # staff may
    assert not blocked.lift("bob@example.com", by=world.staff.pk)


def test_what_comes_back_after_it_was_sent_again_blocks_its_address_again(world):
    """It was written before the address was lifted, and left after that."""
    full = {"became": Became.BOUNCED, "blocks": blocked.Reason.BOUNCED}
    first = sent(world)
    reports.apply(Report(mail_id=first.pk, at=clock.now(), **full))
    held = write(world)
    arrived()
    assert logged(held).status == "suppressed"
    assert blocked.lift("bob@example.com", by=world.staff.pk)

    assert mail.send_again(logged(held))
    assert len(arrived()) == 2
    reports.apply(Report(mail_id=first.pk, at=clock.now(), **full))
    assert blocked.of("bob@example.com") is None
    reports.apply(Report(mail_id=held.pk, at=clock.now(), **full))

    assert blocked.of("bob@example.com")


def test_a_provider_s_api_is_spoken_to_with_our_own_id_and_its_no_is_final(world, monkeypatch):
    """anymail's own test backend stands at the network's edge."""
    from anymail.backends.test import EmailBackend as Fake
    from anymail.exceptions import AnymailRecipientsRefused

    taken = []
    real = Fake.post_to_esp

    def post(self, payload, message):
        if "gone" in message.to[0]:
            raise AnymailRecipientsRefused("All message recipients were rejected or invalid")
        taken.append(payload)
        return real(self, payload, message)

    monkeypatch.setattr(Fake, "post_to_esp", post)
    monkeypatch.setattr("django.conf.settings.EMAIL_BACKEND", "anymail.backends.test.EmailBackend")
    row, gone = write(world), write(world, to="gone@example.com")
    postman.deliver_waiting()
    assert taken[0].params["metadata"] == {"mail": str(row.pk)}
    assert (logged(row).status, logged(row).provider) == ("sent", "test")
    assert logged(row).provider_message_id
    assert (logged(gone).status, logged(gone).attempts) == ("failed", 1)
