"""The delivery desk: what left a brand, for its admins; and every mail there is, as its reader sees it."""

import re
from datetime import timedelta
from smtplib import SMTPRecipientsRefused

import pytest
from django.conf import settings as site
from django.core.mail.backends.locmem import EmailBackend
from django.core.management import call_command
from django.db.models import F
from django.test import Client

from accounts.models import Membership
from events import mail
from events.delivery import blocked, desk, previews
from events.models import Activity, BlockedAddress, EmailLog, WebhookDelivery, WebhookEndpoint
from lib.db import SERVICE, scope
from lib.ids import uuid7
from tests import factories
from tests.factories import make_member, make_user
from tests.post import arrived

pytestmark = pytest.mark.django_db
DESK = "/manage/deliveries/"


def signed_in(user, host="act.localhost"):
    client = Client(headers={"host": host})
    assert client.post("/account/login/", {"login": user.email, "password": factories.PASSWORD}).status_code == 302
    return client


def write(world, title="Your plan", to="bob@example.com", brand=None, **options):
    said = {"title": title, "message": "canary words", "path": "", "action_label": ""}
    return mail.send((brand or world.act).pk, to, "mail/notice", said, email_type="billing_update", **options)


def refusing(monkeypatch):
    def refuse(self, messages):
        raise SMTPRecipientsRefused({"bob@example.com": (550, b"no such user here")})

    monkeypatch.setattr(EmailBackend, "send_messages", refuse)


def test_admins_see_what_left_their_brand_page_by_page_and_nothing_of_another(world, monkeypatch):
    """I-07. A page begins after a row, so what comes in meanwhile is neither shown twice nor passed over."""
    monkeypatch.setattr(desk, "ON_PAGE", 3)
    write(world, "Charlie's own", brand=world.globex)
    for number in range(7):
        write(world, f"Mail <b>{number}</b>")
    alice = signed_in(world.alice)

    def titles(page):
        return [int(found) for found in re.findall(r"Mail &lt;b&gt;(\d)&lt;/b&gt;", page)]

    first = alice.get(DESK).content.decode()
    write(world, "Mail <b>9</b>")
    (more,) = re.findall(r'href="(\?after=[^"]+)" rel="next"', first)
    second = alice.get(DESK + more).content.decode()
    assert (titles(first), titles(second)) == ([6, 5, 4], [3, 2, 1])
    assert "Charlie" not in first
    assert "canary words" not in first
    assert "bob@example.com" in first  # an owner's
    assert alice.get(DESK + "?after=x").status_code == 400
    assert alice.get(DESK + "?state=nonsense").status_code == 400
    assert "Nothing that left your brand fits" in alice.get(DESK + "?state=trouble").content.decode()
    assert titles(alice.get(DESK + "?state=waiting&what=mail").content.decode()) == [9, 6, 5]

    carol = make_user("carol@example.com")
    make_member(world.act, carol, Membership.Role.ADMIN)
    page = signed_in(carol).get(DESK).content.decode()
    assert "bob@example.com" not in page
    assert "b•••@example.com" in page
    assert signed_in(world.bob).get(DESK).status_code == 404
    empty = signed_in(world.charlie, "globex.localhost")
    with scope(SERVICE):
        theirs = EmailLog.objects.get(brand=world.globex)
        ours = EmailLog.objects.filter(brand=world.act).first()
        EmailLog.objects.filter(brand=world.globex).update(brand=None)  # a mail of the house is no brand's
    assert empty.get(f"{DESK}mail/{ours.pk}/").status_code == 404
    assert empty.get(f"{DESK}mail/{theirs.pk}/").status_code == 404
    assert "as soon as there is one" in empty.get(DESK).content.decode()


def call(brand, event, **fields):
    with scope(SERVICE):
        hook, _is_new = WebhookEndpoint.objects.get_or_create(
            brand=brand,
            name="Our CRM",
            url="https://crm.example.com/in",
            defaults={"events": ["*"], "secret": "whsec_x"},
        )
        return WebhookDelivery.objects.create(
            brand=brand, webhook=hook, message_id=uuid7(), event_type=event, event_data={"secret": "canary"}, **fields
        )


def test_webhooks_stand_in_the_same_list_in_the_order_things_left(world, monkeypatch):
    """X9: one desk. A page of both kinds begins after a row of either."""
    monkeypatch.setattr(desk, "ON_PAGE", 3)
    call(world.globex, "theirs.alone")
    for number in range(3):
        write(world, f"Mail {number}")
        call(world.act, f"chat.number{number}", status="failed", http_status=500, attempt_count=4)
    alice = signed_in(world.alice)

    def shown(page):
        return re.findall(r">(Mail \d|chat\.number\d)<", page)

    first = alice.get(DESK).content.decode()
    second = alice.get(DESK + re.findall(r'href="(\?after=[^"]+)" rel="next"', first)[0]).content.decode()
    assert shown(first) == ["chat.number2", "Mail 2", "chat.number1"]
    assert shown(second) == ["Mail 1", "chat.number0", "Mail 0"]
    assert "It answered 500." in first
    assert "Our CRM" in first
    assert "canary" not in first
    assert "theirs.alone" not in first + second
    assert shown(alice.get(DESK + "?what=webhook&state=trouble").content.decode()) == [
        "chat.number2",
        "chat.number1",
        "chat.number0",
    ]
    assert shown(alice.get(DESK + "?what=mail").content.decode()) == ["Mail 2", "Mail 1", "Mail 0"]
    address = re.search(r'<a href="([^"]+)"[^>]*>chat\.number2<', first)[1]
    assert "500" in alice.get(address).content.decode()  # with what was sent, and a button to send it again


def test_what_was_given_up_is_sent_again_once_and_nothing_else_is(world, monkeypatch):
    alice = signed_in(world.alice)
    row = write(world)
    with monkeypatch.context() as broken:
        refusing(broken)
        arrived()
    page = alice.get(f"{DESK}mail/{row.pk}/").content.decode()
    assert "no such user here" in page
    assert "Send it again" in page
    assert "canary words" not in page

    assert alice.post(f"{DESK}mail/{row.pk}/again/").status_code == 303
    assert alice.post(f"{DESK}mail/{row.pk}/again/").status_code == 409  # a double click
    assert [message.subject for message in arrived()] == ["Your plan"]
    assert alice.post(f"{DESK}mail/{row.pk}/again/").status_code == 409  # it left
    assert "Handed over" in alice.get(f"{DESK}mail/{row.pk}/").content.decode()
    with scope(SERVICE):
        assert Activity.objects.filter(action="mail.sent_again", resource_id=row.pk).count() == 1

    linked = mail.send(world.act.pk, "bob@example.com", "account/email/password_reset_key", {}, secrets={"key": "x"})
    with monkeypatch.context() as broken:
        refusing(broken)
        arrived()
    assert "can ask for a new one" in alice.get(f"{DESK}mail/{linked.pk}/").content.decode()
    assert alice.post(f"{DESK}mail/{linked.pk}/again/").status_code == 409

    held = write(world, to="gone@example.com")
    with scope(SERVICE):
        blocked.block(held, blocked.Reason.BOUNCED)
    arrived()
    assert "A mail to this address came back" in alice.get(f"{DESK}mail/{held.pk}/").content.decode()
    assert alice.post(f"{DESK}mail/{held.pk}/again/").status_code == 409
    blocked.lift("gone@example.com", by=world.staff.pk)
    assert alice.post(f"{DESK}mail/{held.pk}/again/").status_code == 303
    assert [message.to for message in arrived()][-1] == ["gone@example.com"]


def test_staff_send_again_and_lift(world, monkeypatch):
    row = write(world)
    with monkeypatch.context() as broken:
        refusing(broken)
        arrived()
    with scope(SERVICE):
        blocked.block(row, blocked.Reason.COMPLAINED)
    staff = signed_in(world.staff)

    chosen = {"action": "lift", "_selected_action": "bob@example.com"}
    assert staff.post("/admin/events/blockedaddress/", chosen, follow=True).status_code == 200
    with scope(SERVICE):
        lifted = BlockedAddress.objects.get()
    assert lifted.lifted_by_id == world.staff.pk
    staff.post("/admin/events/emaillog/", {"action": "send_again", "_selected_action": str(row.pk)})
    assert [message.to for message in arrived()] == [["bob@example.com"]]


def test_a_mail_waits_as_long_as_it_was_told_to_and_may_say_something_else_until_then(world):
    row = write(world, once="a", after=timedelta(minutes=5))
    assert arrived() == []
    with scope(SERVICE):
        assert mail.rewrite(world.act.pk, "a", {"title": "Two\nplans"})
        assert not mail.rewrite(world.globex.pk, "a", {"title": "Theirs"})
        EmailLog.objects.filter(pk=row.pk).update(next_attempt_at=F("next_attempt_at") - timedelta(minutes=6))
    (message,) = arrived()
    assert message.subject == "Two plans"
    with scope(SERVICE):
        assert not mail.rewrite(world.act.pk, "a", {"title": "Too late"})


def test_every_mail_has_a_subject_a_text_and_an_html_in_each_language(world, tmp_path):
    """F-14: and nothing of a template is left in it. A mail that somebody adds is found here by itself."""
    call_command("preview_mails", brand="act", into=str(tmp_path))
    assert "Act" in (tmp_path / "de" / "mail" / "notice.html").read_text()
    found = {language: list(previews.previews(world.act, language)) for language, _ in site.LANGUAGES}

    names = {preview.template for preview in found["en"]}
    assert {"mail/notice", "mail/digest", "mail/alarm", "account/email/password_reset_key"} <= names
    assert {"mfa/email/totp_activated", "socialaccount/email/account_connected"} <= names
    for language, mails in found.items():
        assert {preview.template for preview in mails} == names
        for preview in mails:
            assert preview.subject, preview.template
            assert "\n" not in preview.subject
            assert len(preview.text) > 40, preview.template
            assert not re.search(r"{[{%]|%\(|\bNone\b", preview.subject + preview.text + preview.html), preview.template
            assert f'<html lang="{language}">' in preview.html
            assert "#" in re.search(r"border-bottom:3px solid (\S+?);", preview.html)[1]
            if preview.template != "mail/alarm":  # to ADMINS, in the language of the documentation
                assert preview.text.count(world.act.name) or preview.template == "mfa/email/webauthn_added"
