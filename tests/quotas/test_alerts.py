"""Q11: 80 % and 100 % of a limit, told once in each window to whoever can act, however often and by whom it is looked."""

from datetime import timedelta

import pytest

from accounts.models import Membership
from events import notices, stream
from events.models import EmailLog, Notification
from lib import clock
from lib.db import SERVICE, scope
from quotas import alerts, ledger, proof
from quotas.models import Bucket
from quotas.tasks import prove_balances, tell_of_limits
from tests.factories import make_user
from tests.post import arrived
from tests.quotas.proofs import ask, asked, bucket, entitle, pack, together

pytestmark = pytest.mark.django_db


def use(world, user, *, queries=1, tokens=1, now=None):
    """As finishing.finish() does: settle, and tell the stream."""
    for _ in range(queries):
        ledger.settle(ask(world.act, user, tokens=tokens, now=now), amounts={"queries": 1, "tokens": tokens}, now=now)
    happened(world, user)


def happened(world, user):
    with scope(SERVICE):
        stream.publish(world.act.pk, "member.joined", subject=("user", user.pk), owner_id=user.pk)


def heard(user):
    with scope(SERVICE):
        rows = Notification.objects.filter(owner_id=user.pk).order_by("pk")
        return [(row.title, row.priority) for row in rows]


def test_a_member_hears_once_at_80_and_once_at_100_percent(world):
    use(world, world.bob, queries=7)
    tell_of_limits()
    assert heard(world.bob) == []

    use(world, world.bob)
    for _ in range(3):
        tell_of_limits()
    assert heard(world.bob) == [("80 % of your questions used", "normal")]

    use(world, world.bob)
    tell_of_limits()
    assert len(heard(world.bob)) == 1
    use(world, world.bob)
    for _ in range(3):
        tell_of_limits()
    assert heard(world.bob)[1:] == [("All of your questions are used", "high")]
    assert [(mail.to, mail.subject) for mail in arrived()] == [
        (["bob@example.com"], "80 % of your questions used"),
        (["bob@example.com"], "All of your questions are used"),
    ]
    assert "10 of 10 questions are used." in arrived()[1].body
    assert "http://act.localhost:8000/settings/plan/" in arrived()[1].body
    assert heard(world.alice) == []


def test_who_jumps_to_100_percent_hears_only_of_that_and_of_no_80_after_more_was_given(world):
    use(world, world.bob, queries=10)
    tell_of_limits()
    with scope(SERVICE):
        ledger.override(
            world.act, world.bob.pk, meter="queries", limit=12, until=clock.now() + timedelta(days=1), reason="kind",
            actor_id=None,
        )  # fmt: skip
    happened(world, world.bob)
    tell_of_limits()

    assert heard(world.bob) == [("All of your questions are used", "high")]


def test_a_new_window_may_be_told_of_again(world):
    """Alice is on pro: 40 a day."""
    today = clock.now()
    for day in range(2):
        now = today + timedelta(days=day)
        use(world, world.alice, queries=32, now=now)
        alerts.look(now)
        alerts.look(now)

    assert heard(world.alice) == [("80 % of your questions used", "normal")] * 2
    said = arrived()[0].body
    assert "32 of 40 questions are used. It starts anew on" in said
    assert "00:00 (UTC)" in said


def test_what_is_held_is_not_used_yet(world):
    for _ in range(10):
        ask(world.act, world.bob)
    happened(world, world.bob)

    assert tell_of_limits() == 0


def test_the_brand_s_pool_is_told_to_its_admins_only(world):
    admin = make_user("dora@example.com")
    with scope(SERVICE):
        Membership.objects.create(brand=world.act, user=admin, role="admin")
    for _ in range(16):
        use(world, world.alice, tokens=100_000)
    for _ in range(2):
        tell_of_limits()

    assert heard(admin) == heard(world.alice) == [("80 % of Act’s tokens used", "normal")]
    assert heard(world.bob) == heard(world.charlie) == []
    assert "/manage/plan/" in arrived()[0].body


def test_nothing_is_told_of_no_limit_of_nothing_included_and_of_a_plan_that_is_over(world):
    entitle(world.act, world.bob, ("queries", "day", None), ("messages", "day", 0))
    use(world, world.bob, queries=3)
    assert tell_of_limits() == 0

    entitle(world.act, world.bob, ("queries", "lifetime", 4))
    use(world, world.bob, queries=3)
    entitle(world.act, world.bob, ("queries", "month", 100))
    happened(world, world.bob)
    use(world, world.bob)
    assert tell_of_limits() == 0


def test_the_cap_of_what_extra_questions_may_cost_is_told_in_money(world):
    features = {
        "overage_allowed": True, "overage_by_default": True, "overage_price_microusd": 25_000,
        "overage_cap_microusd": 100_000, "is_billable": True,
    }  # fmt: skip
    entitle(world.act, world.bob, ("queries", "lifetime", 0), features=features)
    for _ in range(4):
        reservation, pocket = asked(world.act, world.bob)
        assert pocket == "overage"
        ledger.settle(reservation, amounts={"queries": 1, "tokens": 1})
    happened(world, world.bob)

    tell_of_limits()

    assert heard(world.bob) == [("All of your cap for extra questions is used", "high")]
    assert "have cost $0.10 of the $0.10 a month that you allow" in arrived()[0].body


def test_a_pack_is_no_window(world):
    entitle(world.act, world.bob, ("queries", "lifetime", 0))
    pack(world.act, world.bob, 2)
    use(world, world.bob, queries=2)

    assert tell_of_limits() == 0


def test_a_reader_that_was_away_hears_all_of_it_later_and_one_that_fails_reads_it_again(world, monkeypatch):
    tell_of_limits()
    use(world, world.bob, queries=10)

    def broken(*_, **__):
        raise ZeroDivisionError

    with monkeypatch.context() as away:
        away.setattr(alerts, "_untold", broken)
        with pytest.raises(ZeroDivisionError):
            tell_of_limits()
    assert tell_of_limits() == 1


def test_one_person_who_cannot_be_told_keeps_nobody_else_from_it(world, monkeypatch):
    use(world, world.bob, queries=10)
    use(world, world.alice, queries=40)
    real = notices.tell

    def fails_for_bob(brand_id, user_id, *args, **kwargs):
        if user_id == world.bob.pk:
            raise ZeroDivisionError
        return real(brand_id, user_id, *args, **kwargs)

    monkeypatch.setattr(notices, "tell", fails_for_bob)

    assert tell_of_limits() == 1
    assert len(heard(world.alice)) == 1


@pytest.mark.django_db(transaction=True)
def test_many_workers_that_look_at_once_tell_each_limit_once(live_world):
    """Q-01's kind of race: the threshold is passed while eight look."""

    def work(number):
        if number % 2:
            return tell_of_limits()
        reservation = ask(live_world.act, live_world.bob, tokens=1)
        ledger.settle(reservation, amounts={"queries": 1, "tokens": 1})
        happened(live_world, live_world.bob)
        return tell_of_limits()

    outcomes = together(8, work) + together(12, work)
    tell_of_limits()

    assert not [one for one in outcomes if isinstance(one, Exception)]
    titles = [title for title, _ in heard(live_world.bob)]
    assert titles.count("All of your questions are used") == 1
    assert titles.count("80 % of your questions used") <= 1
    with scope(SERVICE):
        assert EmailLog.objects.count() == len(titles) == len(arrived())


def test_a_drift_is_told_to_staff_by_name_of_its_row_once_a_day(world, settings):
    """Q-33"""
    settings.ADMINS = []
    make_user("helper@example.com", is_staff=True)  # may see no balances
    use(world, world.bob)
    assert prove_balances() == 0
    wrong = bucket(world.act, world.bob.pk, "queries")
    with scope(SERVICE):
        Bucket.objects.filter(pk=wrong.pk).update(used=3)

    for _ in range(2):
        assert prove_balances() == len(proof.drifts()) == 1

    assert [title for title, _ in heard(world.staff)] == ["A balance is not the sum of its lines"]
    (mail,) = arrived()
    assert mail.to == ["staff@example.com"]
    assert str(wrong.pk) in mail.body
    assert "http://act.localhost:8000/admin/quotas/bucket/balances/" in mail.body
