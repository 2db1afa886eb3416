"""The one door of mail: what is mailed is logged, leaves once after the commit, and what cannot leave is seen."""

import ast
from datetime import timedelta
from smtplib import SMTPDataError, SMTPRecipientsRefused, SMTPServerDisconnected
from time import sleep

import pytest
from django.conf import settings as site
from django.core.cache import cache
from django.core.mail.backends.locmem import EmailBackend
from django.db import connections
from django.db.models import F
from django.test import Client

from accounts.models import Brand
from events import mail, postman
from events.models import EmailLog
from lib.colour import srgb
from lib.db import SERVICE, scope
from tests.post import arrived, outbox
from tests.quotas.proofs import together

pytestmark = pytest.mark.django_db
NOTICE = {"title": "Your plan", "message": "It changed.", "path": "/c/", "action_label": "See it"}


def write(world, **options):
    return mail.send(world.act.pk, "bob@example.com", "mail/notice", NOTICE, user_id=world.bob.pk, **options)


def logged(row):
    with scope(SERVICE):
        return EmailLog.objects.get(pk=row.pk)


def age(row):
    with scope(SERVICE):
        EmailLog.objects.filter(pk=row.pk).update(next_attempt_at=F("next_attempt_at") - timedelta(days=1))


def failing(monkeypatch, error):
    def refuse(self, messages):
        raise error

    monkeypatch.setattr(EmailBackend, "send_messages", refuse)


@pytest.mark.django_db(transaction=True)
def test_a_mail_leaves_with_the_commit_of_its_cause_and_its_log_says_so(live_world):
    with scope(SERVICE):
        row = write(live_world)
        assert outbox() == []

    (message,) = outbox()
    sent = logged(row)
    assert (message.subject, message.to, message.from_email) == ("Your plan", ["bob@example.com"], sent.from_email)
    assert sent.from_email == "Act <no-reply@localhost>"
    assert message.body == "It changed.\n\nSee it:\n\nhttp://act.localhost:8000/c/\n\nAct\nhttp://act.localhost:8000"
    assert (sent.status, sent.attempts, sent.email_type, sent.provider) == ("sent", 1, "notice", "locmem")
    assert sent.sent_at
    assert message.message()["Message-ID"] == sent.provider_message_id == f"<{row.pk}@act.localhost>"


@pytest.mark.django_db(transaction=True)
def test_what_was_rolled_back_is_neither_logged_nor_mailed(live_world):
    def fail():
        with scope(SERVICE):
            write(live_world)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert outbox() == []
    with scope(SERVICE):
        assert not EmailLog.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_postmen_at_one_mail_send_it_once(live_world, monkeypatch):
    real = EmailBackend.send_messages

    def slow(self, messages):
        sleep(0.1)
        return real(self, messages)

    monkeypatch.setattr(EmailBackend, "send_messages", slow)
    monkeypatch.setattr(mail.send_mail, "delay", lambda mail_id: None)  # the queue is slow: both find it waiting
    row = write(live_world)

    took = together(8, lambda _: postman.deliver(row.pk))

    assert sorted(took) == [False] * 7 + [True]
    assert len(outbox()) == 1
    assert logged(row).attempts == 1


@pytest.mark.django_db(transaction=True)
def test_one_cause_is_mailed_once_whoever_races_to_tell_it(live_world):
    rows = together(8, lambda _: write(live_world, once="trial:1"))

    assert len({row.pk for row in rows}) == 1
    assert len(outbox()) == 1
    mail.send(live_world.globex.pk, "charlie@example.com", "mail/notice", NOTICE, once="trial:1")
    assert len(outbox()) == 2  # another brand's causes are its own


def test_a_long_name_in_any_script_does_not_keep_a_mail_back(world):
    with scope(SERVICE):
        Brand.objects.filter(pk=world.act.pk).update(name="\U0001f41d" * 80)

    row = write(world)

    assert 100 < len(logged(row).from_email) <= 320


def test_a_mail_of_the_house_is_sent_once_for_a_cause_too(world):
    rows = {mail.send(None, "ops@example.com", "mail/notice", NOTICE, once="drift").pk for _ in range(2)}

    assert len(rows) == 1
    assert [message.from_email for message in arrived()] == ["chatsite <no-reply@localhost>"]


def test_a_mail_server_that_is_away_is_asked_again_later_and_at_last_no_more(world, monkeypatch):
    row = write(world)
    with monkeypatch.context() as away:
        failing(away, SMTPServerDisconnected("Connection unexpectedly closed"))
        assert not postman.deliver(row.pk)
        assert not postman.deliver(row.pk)  # its time has not come
        waiting = logged(row)
        assert (waiting.status, waiting.attempts) == ("queued", 1)
        assert "Connection unexpectedly closed" in waiting.error
        assert waiting.next_attempt_at - waiting.created_at >= timedelta(seconds=50)

        for _ in postman.PAUSES:
            age(row)
            postman.deliver_waiting()
        assert (logged(row).status, logged(row).attempts) == ("failed", len(postman.PAUSES) + 1)
        assert postman.unsent() == 1

    age(row)
    assert arrived() == []  # failed is failed


def test_a_mail_that_waited_leaves_when_the_server_is_back(world, monkeypatch):
    row = write(world)
    with monkeypatch.context() as away:
        failing(away, ConnectionRefusedError())
        postman.deliver_waiting()
    age(row)

    assert len(arrived()) == 1
    assert (logged(row).status, logged(row).attempts, logged(row).error) == ("sent", 2, "")


@pytest.mark.parametrize(
    "refusal",
    [SMTPRecipientsRefused({"bob@example.com": (550, b"no such user")}), SMTPDataError(554, b"looks like spam")],
    ids=["recipient", "content"],
)
def test_what_the_server_refuses_for_good_is_not_tried_again(world, monkeypatch, refusal):
    row = write(world)
    failing(monkeypatch, refusal)

    postman.deliver_waiting()

    assert (logged(row).status, logged(row).attempts) == ("failed", 1)
    assert "55" in logged(row).error


def test_a_worker_that_dies_after_the_server_s_yes_sends_a_second_copy_with_the_same_id(world, monkeypatch):
    """At least once, and whoever reads both can see that they are one."""
    row = write(world)
    real = EmailBackend.send_messages

    def killed(self, messages):
        real(self, messages)
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(EmailBackend, "send_messages", killed)
        with pytest.raises(SystemExit):
            postman.deliver(row.pk)
    assert len(arrived()) == 1  # for some minutes it is the dead one's alone
    age(row)

    first, second = arrived()
    assert first.message()["Message-ID"] == second.message()["Message-ID"]


def test_a_mail_that_kills_each_worker_is_given_up(world, monkeypatch):
    row = write(world)
    with monkeypatch.context() as dying:
        failing(dying, SystemExit())
        for _ in range(len(postman.PAUSES) + 1):
            with pytest.raises(SystemExit):
                postman.deliver(row.pk)
            age(row)

    assert arrived() == []
    assert logged(row).status == "failed"


def test_a_link_that_opens_something_is_in_no_row_no_log_and_gone_when_sent(world, caplog):
    caplog.set_level("DEBUG")
    Client(headers={"host": "act.localhost"}).post("/account/password/reset/", {"email": "alice@example.com"})

    (message,) = arrived()

    with scope(SERVICE):
        (row,) = EmailLog.objects.values()
    link = next(line for line in message.body.split() if "/password/reset/key/" in line)
    token = link.rstrip("/").rpartition("/")[2]
    assert row["user_id"] == world.alice.pk
    assert row["email_type"] == "password_reset_key"
    assert token not in str(row)
    assert token not in caplog.text
    assert cache.get(postman.secrets_of(row["id"])) is None


def test_a_mail_whose_link_was_lost_fails_and_says_why(world):
    row = mail.send(world.act.pk, "bob@example.com", "account/email/password_reset_key", {}, secrets={"key": "x"})
    cache.clear()

    assert arrived() == []
    assert logged(row).status == "failed"
    assert "can ask for a new one" in logged(row).error


@pytest.mark.parametrize("name", ["<b>Ev\r\nBcc: x@example.com</b>", "{{ 7 }}{% debug %}", '"; x@example.com', "é 猫"])
def test_names_are_shown_as_they_are_and_change_no_header(world, name):
    """V-14, F-05, F-14"""
    with scope(SERVICE):
        Brand.objects.filter(pk=world.act.pk).update(name=name)
    said = {"title": f"About {name}", "message": f"<script>{name}</script>", "path": "", "action_label": ""}
    mail.send(world.act.pk, "bob@example.com", "mail/notice", said)

    (message,) = arrived()

    parsed = message.message()
    assert parsed.get_all("To") == ["bob@example.com"]
    assert parsed.get_all("Bcc") is None
    assert parsed.get_all("Cc") is None
    assert message.recipients() == ["bob@example.com"]
    html = message.alternatives[0][0]
    assert "<script>" not in html
    assert "<b>" not in html
    assert f"<script>{name.splitlines()[0]}" in message.body


def test_the_html_says_the_same_words_and_only_whole_lines_become_links(world):
    said = {**NOTICE, "message": "See https://evil.example in a sentence."}
    mail.send(world.act.pk, "bob@example.com", "mail/notice", said)

    html = arrived()[0].alternatives[0][0]

    assert html.count("<a ") == 2
    assert 'href="http://act.localhost:8000/c/"' in html
    assert "See https://evil.example in a sentence." in html


def test_a_link_can_be_read_on_white_whatever_colour_a_brand_picks():
    def light(part):
        part = int(part, 16) / 255
        return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

    def contrast(colour):
        red, green, blue = (light(colour[at : at + 2]) for at in (1, 3, 5))
        return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)

    assert (
        min(contrast(srgb(0.46, chroma, hue)) for hue in range(0, 361, 3) for chroma in (0, 0.06, 0.105, 0.15)) >= 4.5
    )
    assert (srgb(1, 0, 0), srgb(0, 0, 0), srgb(0.627955, 0.257683, 29.2339)) == ("#ffffff", "#000000", "#ff0000")


def test_nobody_but_the_postman_talks_to_the_mail_server():
    """The door is the only one: whoever imports Django's mail, or asks a user row to mail itself, is named."""
    apps = (
        "accounts",
        "agents",
        "billing",
        "chatsite",
        "conversations",
        "events",
        "knowledge",
        "lib",
        "providers",
        "quotas",
    )
    guilty = set()
    for path in (path for app in apps for path in (site.BASE_DIR / app).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute) and node.attr in ("email_user", "render_mail"):
                names = ["django.core.mail"]
            if any(name.startswith(("django.core.mail", "smtplib")) for name in names):
                guilty.add(str(path.relative_to(site.BASE_DIR)))

    assert guilty == {"events/postman.py"}


@pytest.mark.django_db(transaction=True)
def test_no_role_of_people_reads_the_log(live_world):
    write(live_world)
    for role in ("app_user", "app_brand", "app_visitor", "app_public"):
        with connections["owner"].cursor() as cursor:
            cursor.execute(
                "select has_table_privilege(%s, 'events_emaillog', 'select, insert, update, delete')", [role]
            )
            assert cursor.fetchone() == (False,)
