"""The matrix, what is collected and when it comes, and that nobody gets a storm of it."""

import os
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from accounts.models import Profile
from events import choices, digest, notices, sweeping
from events.models import EmailLog, NoticePreference, Notification
from lib import clock
from lib.db import SERVICE, Principal, scope
from lib.ids import first_at
from tests.factories import member
from tests.post import arrived
from tests.quotas.proofs import together

pytestmark = pytest.mark.django_db
EVENTS = int(os.environ.get("STORM", "60"))


def choose(world, user, kind, mail, in_app=True):
    person = member(world.act, user)
    with scope(person):
        choices.choose(person, kind, in_app=in_app, mail=mail)


def tell(world, user, kind="billing_update", title="Something", **more):
    return notices.tell(world.act.pk, user.pk, kind, title=title, message=f"{title}.", **more)


def happened(notice, at):
    """As if it had been told then: ids are made from the time, and so sort by it."""
    with scope(SERVICE):
        row = Notification.objects.get(pk=notice.pk)
        Notification.objects.filter(pk=row.pk).delete()
        row.pk = notice.id = type(notice.pk)(int=first_at(at).int | (notice.pk.int & (2**80 - 1)))
        row.save(force_insert=True)
        Notification.objects.filter(pk=row.pk).update(created_at=at)


def zone_of(user, zone):
    with scope(SERVICE):
        Profile.objects.filter(user=user).update(zone=zone)


def digests():
    with scope(SERVICE):
        rows = EmailLog.objects.filter(email_type="digest").order_by("pk")
        return [(row.to_email, [item["title"] for item in row.template_data["items"]]) for row in rows]


@pytest.mark.parametrize(
    ("zone", "often", "now", "due"),
    [
        ("Europe/Berlin", "daily", "2026-03-29T05:59Z", "2026-03-28T07:00Z"),  # the night the hour is skipped
        ("Europe/Berlin", "daily", "2026-03-29T06:00Z", "2026-03-29T06:00Z"),
        ("Europe/Berlin", "daily", "2026-10-25T06:59Z", "2026-10-24T06:00Z"),  # and is doubled
        ("Europe/Berlin", "daily", "2026-10-25T07:00Z", "2026-10-25T07:00Z"),
        ("Asia/Kathmandu", "daily", "2026-11-02T02:15Z", "2026-11-02T02:15Z"),  # a quarter of an hour
        ("America/Los_Angeles", "weekly", "2026-11-02T15:59Z", "2026-10-26T15:00Z"),  # a Monday, winter since Sunday
        ("America/Los_Angeles", "weekly", "2026-11-02T16:00Z", "2026-11-02T16:00Z"),
        ("Pacific/Kiritimati", "weekly", "2026-11-01T18:00Z", "2026-11-01T18:00Z"),  # Monday already
    ],
)
def test_eight_o_clock_is_that_of_the_person(zone, often, now, due):
    assert digest.until(datetime.fromisoformat(now), zone, often) == datetime.fromisoformat(due)


def test_what_was_collected_comes_once_at_eight_in_one_mail_and_nothing_is_lost(world):
    """However often and late it runs. Unread behind the bell; or all of it, for who has no bell."""
    zone_of(world.bob, "Asia/Tokyo")
    choose(world, world.bob, "billing_update", "daily")
    choose(world, world.bob, "system", "weekly", in_app=False)
    monday = datetime(2026, 11, 2, 8, tzinfo=ZoneInfo("Asia/Tokyo"))
    with scope(SERVICE):
        NoticePreference.objects.update(digested_until=monday - timedelta(days=1))
    old, seen, new, quiet = (tell(world, world.bob, title=t) for t in ("Old", "Seen", "New", "Quiet"))
    job = tell(world, world.bob, "system", "Job")
    urgent = tell(world, world.bob, title="Urgent", priority="urgent")
    other = tell(world, world.bob, "usage_limit", "Limit")
    assert [mail.subject for mail in arrived()] == ["Urgent", "Limit"]
    for notice, at in (
        (old, monday - timedelta(days=1, hours=1)), (seen, monday - timedelta(hours=3)), (new, monday - timedelta(hours=2)),
        (job, monday - timedelta(hours=1)), (urgent, monday - timedelta(hours=1)), (other, monday - timedelta(hours=1)),
        (quiet, monday + timedelta(minutes=1)),
    ):  # fmt: skip
        happened(notice, at)
    person = member(world.act, world.bob)
    with scope(person):
        notices.mark_read(person, seen.id)

    assert digest.send_due(monday - timedelta(minutes=1)) == 0
    assert digest.send_due(monday + timedelta(minutes=1)) == 0  # what began before may still be committed
    assert digest.send_due(monday + timedelta(minutes=3)) == 1
    assert digest.send_due(monday + timedelta(minutes=18)) == 0
    assert digest.send_due(monday + timedelta(days=3)) == 1  # nobody ran for three days
    assert digests() == [("bob@example.com", ["Job", "New"]), ("bob@example.com", ["Quiet"])]
    first = arrived()[-2]
    assert first.subject == "2 notifications of Act"
    assert "Job." in first.body
    assert "/notifications/" in first.body
    assert first.message()["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_what_was_weekly_and_is_daily_from_this_afternoon_comes_today(world):
    """Though the mail of what was daily before has gone."""
    zone_of(world.bob, "Europe/Berlin")
    choose(world, world.bob, "billing_update", "daily")
    choose(world, world.bob, "system", "weekly")
    wednesday = datetime(2026, 11, 4, 8, tzinfo=ZoneInfo("Europe/Berlin"))
    with scope(SERVICE):
        NoticePreference.objects.update(digested_until=wednesday - timedelta(days=1))
    for kind, title in (("billing_update", "Plan"), ("system", "Job")):
        happened(tell(world, world.bob, kind, title), wednesday - timedelta(hours=1))

    assert digest.send_due(wednesday + timedelta(minutes=3)) == 1
    choose(world, world.bob, "system", "daily")
    assert digest.send_due(wednesday + timedelta(hours=2)) == 1
    assert digest.send_due(wednesday + timedelta(hours=3)) == 0
    assert [titles for _to, titles in digests()] == [["Plan"], ["Job"]]


def test_what_was_told_while_the_bell_was_off_is_collected_though_it_is_on_by_then(world):
    choose(world, world.bob, "billing_update", "daily", in_app=False)
    tell(world, world.bob, title="Silent")
    choose(world, world.bob, "billing_update", "daily")
    tell(world, world.bob, title="Seen")
    person = member(world.act, world.bob)
    with scope(person):
        notices.mark_all_read(person)

    assert digest.send_due(clock.now() + timedelta(days=1)) == 1
    assert [titles for _to, titles in digests()] == [["Silent"]]


def test_nobody_gets_a_digest_who_left_or_to_whom_nothing_happened(world):
    for user in (world.alice, world.bob):
        choose(world, user, "billing_update", "daily")
    tell(world, world.bob)
    for ended in (lambda rows: rows.update(suspended_at=clock.now()), lambda rows: rows.delete()):
        with scope(SERVICE):
            NoticePreference.objects.update(digested_until=timezone.now() - timedelta(days=1))
            ended(world.bob.memberships.all())
        assert digest.send_due(timezone.now() + timedelta(days=1)) == 0
    assert digests() == []


@pytest.mark.django_db(transaction=True)
def test_a_digest_is_sent_once_whoever_races_to_send_it(live_world):
    choose(live_world, live_world.bob, "billing_update", "daily")
    tell(live_world, live_world.bob)
    tomorrow = clock.now() + timedelta(days=1)

    assert sorted(together(4, lambda _: digest.send_due(tomorrow))) == [0, 0, 0, 1]
    assert len(digests()) == 1


@pytest.mark.django_db(transaction=True)
def test_a_storm_becomes_one_notice_that_counts_and_one_mail(live_world):
    """X9: whatever number of leads in an hour, told by several workers at once, each of them twice."""
    act, alice = live_world.act, live_world.alice

    def storm(worker):
        for event in range(EVENTS):
            if event % 4 == worker or event % 4 == (worker + 1) % 4:
                tell(live_world, alice, "new_lead", f"Lead {event}", once=f"lead:{event}", all_url="/manage/")

    together(4, storm)

    asking = Principal("app_user", act.pk, alice.pk)
    with scope(asking):
        (shown,) = notices.recent(asking, most=100)
        assert notices.unread(asking) == 1
    assert (shown.title, shown.count, shown.action_url) == (f"{EVENTS} new leads", EVENTS, "/manage/")
    with scope(SERVICE):
        assert Notification.objects.filter(owner_id=alice.pk).count() == EVENTS  # and which they were is kept
        (mail,) = EmailLog.objects.all()
        assert (mail.status, mail.subject, mail.attempts) == ("queued", f"{EVENTS} new leads", 0)
        EmailLog.objects.update(next_attempt_at=clock.now() - timedelta(seconds=1))
    assert [message.subject for message in arrived()] == [f"{EVENTS} new leads"]

    tell(live_world, alice, "new_lead", "One more", once="lead:more")
    with scope(asking):
        assert notices.recent(asking)[0].title == f"{EVENTS + 1} new leads"
        notices.mark_all_read(asking)
    tell(live_world, alice, "new_lead", "After reading", once="lead:after")  # is news again, and no second mail
    with scope(asking):
        assert notices.recent(asking)[0].title == "After reading"
    with scope(SERVICE):
        assert EmailLog.objects.count() == 1
        Notification.objects.update(created_at=clock.now() - timedelta(hours=2))
        EmailLog.objects.all().delete()
    tell(live_world, alice, "new_lead", "An hour later")
    with scope(asking):
        assert [notice.title for notice in notices.recent(asking)][:2] == ["An hour later", "After reading"]
    with scope(SERVICE):
        assert EmailLog.objects.get().subject == "An hour later"


def test_what_is_old_is_forgotten_and_what_waits_is_not(world, settings):
    settings.EMAIL_LOG_DAYS, settings.NOTICES_DAYS = 90, 365
    for _ in range(3):
        tell(world, world.bob)
    arrived()
    tell(world, world.bob)  # still queued
    now = clock.now()

    assert sweeping.sweep(now + timedelta(days=89)) == {"mails": 0, "notices": 0}
    assert sweeping.sweep(now + timedelta(days=91)) == {"mails": 3, "notices": 0}
    assert sweeping.sweep(now + timedelta(days=366)) == {"mails": 0, "notices": 4}
    with scope(SERVICE):
        assert EmailLog.objects.get().status == "queued"
