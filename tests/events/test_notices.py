"""The bell: each person's own, told once for each cause, and marked as read by nobody else."""

import pytest

from events import notices
from events.models import EmailLog, Notification
from lib.db import SERVICE, Principal, scope
from lib.ids import uuid7
from tests.factories import member
from tests.post import arrived
from tests.quotas.proofs import together

pytestmark = pytest.mark.django_db
WORDS = {"title": "Your plan", "message": "It changed."}


def notify(brand, user, **options):
    return notices.notify(brand.pk, user.pk, "billing_update", **{**WORDS, **options})


def heard(brand, user, role="app_user"):
    asking = Principal(role, brand.pk, user.pk)
    with scope(asking):
        return [notice.title for notice in notices.recent(asking)], notices.unread(asking)


def test_a_person_hears_what_was_told_to_them_and_nothing_of_others(world):
    """I-07"""
    notify(world.act, world.alice, title="Alice's")
    notify(world.act, world.bob, title="Bob's first")
    notify(world.act, world.bob, title="Bob's second")
    notify(world.globex, world.charlie, title="Charlie's")

    assert heard(world.act, world.bob) == (["Bob's second", "Bob's first"], 2)
    assert heard(world.act, world.alice, "app_brand") == (["Alice's"], 1)  # the whole brand is in her scope
    assert heard(world.globex, world.charlie) == (["Charlie's"], 1)
    with scope(member(world.act, world.bob)):
        assert Notification.objects.count() == 2  # the database itself shows no more


def test_reading_marks_one_s_own_and_a_second_time_changes_nothing(world):
    first, second = notify(world.act, world.bob), notify(world.act, world.bob)
    hers = notify(world.act, world.alice)
    bob, alice = member(world.act, world.bob), Principal("app_brand", world.act.pk, world.alice.pk)

    with scope(alice):
        assert not notices.mark_read(alice, first.pk)
    with scope(bob):
        assert not notices.mark_read(bob, hers.pk)
        assert not notices.mark_read(bob, uuid7())
        assert notices.mark_read(bob, first.pk)
        read_at = Notification.objects.get(pk=first.pk).read_at
        assert not notices.mark_read(bob, first.pk)
        assert Notification.objects.get(pk=first.pk).read_at == read_at
        assert notices.unread(bob) == 1
        assert notices.mark_all_read(bob) == 1
        assert notices.mark_all_read(bob) == notices.unread(bob) == 0
        assert Notification.objects.get(pk=second.pk).read_at
    assert heard(world.act, world.alice) == (["Your plan"], 1)


def test_counting_ends_at_a_hundred(world):
    for _ in range(103):
        notify(world.act, world.bob)

    titles, unread = heard(world.act, world.bob)

    assert (len(titles), unread) == (20, 100)


@pytest.mark.django_db(transaction=True)
def test_one_cause_is_told_once_by_bell_and_mail_whoever_races(live_world):
    act, bob = live_world.act, live_world.bob

    def tell(_):
        return notices.tell(act.pk, bob.pk, "usage_limit", **WORDS, action_url="/c/", action_label="Ask", once="b:80")

    told = [one for one in together(8, tell) if one]

    assert len(told) == 1
    assert heard(act, bob) == (["Your plan"], 1)
    assert [(mail.to, mail.subject) for mail in arrived()] == [(["bob@example.com"], "Your plan")]
    assert notices.tell(act.pk, live_world.alice.pk, "usage_limit", **WORDS, once="b:80")  # another person
    assert notices.tell(act.pk, bob.pk, "usage_limit", **WORDS, once="b:100")  # another cause
    assert len(arrived()) == 3
    with scope(SERVICE):
        assert {row.email_type for row in EmailLog.objects.all()} == {"usage_limit"}


def test_somebody_who_may_not_sign_in_any_more_gets_no_mail(world):
    world.bob.is_active = False
    with scope(SERVICE):
        world.bob.save()

    assert notices.tell(world.act.pk, world.bob.pk, "billing_update", **WORDS)
    assert arrived() == []


@pytest.mark.parametrize(
    "address", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_a_notice_leads_nowhere_but_to_this_site(world, address):
    """A-11"""
    with pytest.raises(ValueError, match="no path of this site"):
        notify(world.act, world.bob, action_url=address)
