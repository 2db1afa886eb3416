"""What a mail leads to: the click that stops its kind, and the trail that a brand may switch on."""

import re

import pytest
from django.core import signing
from django.test import Client

from accounts.models import Brand
from events import choices, mail, notices
from events.delivery import trails
from events.models import EmailLog, NoticePreference
from lib.db import SERVICE, scope
from tests.factories import member
from tests.post import arrived

pytestmark = pytest.mark.django_db
WORDS = {"title": "Your plan", "message": "It changed.", "action_url": "/c/", "action_label": "See it"}
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


def browser(host="act.localhost"):
    return Client(headers={"host": host})


def tell(world, kind="billing_update", **more):
    notices.tell(world.act.pk, world.bob.pk, kind, **WORDS, **more)
    return arrived()[-1]


def path(address):
    return re.sub(r"^https?://[^/]+", "", address)


def chosen(world, kind="billing_update"):
    person = member(world.act, world.bob)
    with scope(person):
        return next(row["ways"] for row in choices.matrix(person, runs_the_brand=True) if row["kind"] == kind)


def test_one_click_in_a_mail_stops_its_kind_without_a_log_in_and_can_be_undone(world):
    """RFC 8058: the program of the reader posts, signed by us, and merely looking changes nothing."""
    message = tell(world).message()
    (address,) = re.fullmatch(r"<(\S+)>", message["List-Unsubscribe"]).groups()
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert address.startswith("http://act.localhost:8000/mail/stop/")
    stranger = browser()

    page = stranger.get(path(address))
    assert (page.status_code, chosen(world).mail) == (200, "at_once")
    assert "Plan and payments" in page.content.decode()
    assert not stranger.cookies
    assert stranger.post(path(address), ONE_CLICK).status_code == 200
    assert stranger.post(path(address), ONE_CLICK).status_code == 200
    assert (chosen(world).mail, chosen(world).in_app, chosen(world, "usage_limit").mail) == ("never", True, "at_once")
    before = len(arrived())
    notices.tell(world.act.pk, world.bob.pk, "billing_update", **WORDS)
    assert len(arrived()) == before
    urgent = tell(world, priority="urgent")  # and it cannot be stopped
    assert urgent.message()["List-Unsubscribe"] is None
    assert "No more of these" not in urgent.body

    gone = stranger.post(path(address), {"do": "stop"}, follow=True).content.decode()
    assert "You get no more of these" in gone
    assert "You get them again" in stranger.post(path(address), {"do": "again"}, follow=True).content.decode()
    assert chosen(world).mail == "at_once"


def test_nobody_makes_such_an_address_or_uses_it_elsewhere(world):
    address = path(tell(world).message()["List-Unsubscribe"].strip("<>"))
    forged = [
        address.replace(":", ":x", 1),
        f"/mail/stop/{signing.dumps([world.act.pk.hex, world.bob.pk.hex, 'billing_update'])}/",  # another salt
        "/mail/stop/nonsense/",
    ]
    for each in forged:
        assert browser().post(each, ONE_CLICK).status_code == 404
    assert browser("globex.localhost").post(address, ONE_CLICK).status_code == 404
    assert chosen(world).mail == "at_once"
    with scope(SERVICE):
        assert not NoticePreference.objects.exists()


def test_mails_about_signing_in_have_nothing_to_stop_and_no_trail(world):
    with scope(SERVICE):
        Brand.objects.filter(pk=world.act.pk).update(mail_tracking=True)
    browser().post("/account/password/reset/", {"email": "bob@example.com"})
    message = arrived()[-1]
    assert "/password/reset/key/" in message.body
    assert message.message()["List-Unsubscribe"] is None
    assert "/mail/" not in message.body + message.alternatives[0][0]


def test_opens_and_clicks_are_noted_where_the_brand_said_so_and_lead_only_where_the_mail_does(world):
    plain = tell(world)
    assert "/mail/to/" not in plain.alternatives[0][0]
    assert "<img" not in plain.alternatives[0][0]
    with scope(SERVICE):
        Brand.objects.filter(pk=world.act.pk).update(mail_tracking=True)
    message = tell(world)
    html = message.alternatives[0][0]
    with scope(SERVICE):
        row = EmailLog.objects.latest("pk")
    assert "/mail/to/" not in message.body
    assert "http://act.localhost:8000/c/" in message.body
    (pixel,) = re.findall(r'<img src="([^"]+)"', html)
    links = re.findall(r'<a href="([^"]+)"[^>]*>([^<]+)</a>', html)
    assert "bob" not in pixel + links[0][0]
    assert world.bob.pk.hex not in signing.loads(pixel.rpartition("/")[2][:-4], salt=trails.OPENED)

    seen = browser().get(path(pixel))
    assert (seen.status_code, seen.headers["Content-Type"]) == (200, "image/gif")
    assert not seen.cookies
    with scope(SERVICE):
        first = EmailLog.objects.get(pk=row.pk)
    assert (first.status, bool(first.opened_at)) == ("opened", True)
    for address, shown in links:
        if "/mail/stop/" in shown:
            assert address == shown
            continue
        answer = browser().get(path(address))
        assert (answer.status_code, answer.headers["Location"]) == (302, shown)
    browser().get(path(pixel))
    with scope(SERVICE):
        last = EmailLog.objects.get(pk=row.pk)
    assert (last.status, last.opened_at, bool(last.clicked_at)) == ("clicked", first.opened_at, True)

    elsewhere = signing.dumps([row.pk.hex, "https://evil.example/"], salt=trails.OPENED)  # signed, for another use
    for each in (f"/mail/to/{elsewhere}/", path(links[0][0]).replace(":", ":x", 1), "/mail/to/x/", "/mail/seen/x.gif"):
        assert browser().get(each).status_code == 404
    with scope(SERVICE):
        EmailLog.objects.all().delete()
    assert browser().get(path(links[0][0])).status_code == 302  # swept away, and the link still leads on


def test_a_stop_link_is_no_secret_and_stands_in_no_row(world):
    mail.send(world.act.pk, "bob@example.com", "mail/notice", {**WORDS, "stops": "system"}, user_id=world.bob.pk)
    address = arrived()[-1].message()["List-Unsubscribe"].strip("<>")
    with scope(SERVICE):
        assert address.split("/")[-2] not in str(list(EmailLog.objects.values()))
