"""The stream: in order, without a gap, whoever commits when; and what is published is what the catalogue says."""

import random
import threading
from collections import defaultdict

import jsonschema
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import ProgrammingError, connections, transaction
from django.test import RequestFactory

from accounts import circumstances
from events import catalogue, reading, settling, stream
from events.management.commands import event_reference
from events.models import Event
from lib.db import SERVICE, Principal, close_all, scope, send
from lib.ids import uuid7

live = pytest.mark.django_db(transaction=True)
WRITERS, EACH = 6, 25


class Regretted(Exception):
    pass


def write(brand, subjects, committed, seed):
    """Transactions that publish, wait at a subject's lock, and sometimes roll back."""
    dice = random.Random(seed)
    try:
        for _ in range(EACH):
            subject, mine = dice.choice(subjects), uuid7()
            try:
                with scope(SERVICE):
                    if dice.random() < 0.5:  # it has its number before it waits, so the numbers are no order
                        Event.objects.filter(pk=mine).exists()
                        send(("select pg_current_xact_id()::text", {}))
                    key = int.from_bytes(subject.bytes[8:], signed=True)
                    (row,) = send(
                        ("select pg_advisory_xact_lock(%(key)s)", {"key": key}),
                        ("select count(*) as so_far from events_event where subject_id = %(id)s", {"id": subject}),
                    )[1]
                    data = {"user_id": str(mine)}
                    stream.publish(brand.pk, "visitor.adopted", subject=("visitor", subject), data=data)
                    if dice.random() < 0.3:
                        send(("select pg_sleep(%(s)s)", {"s": dice.random() / 50}))
                    if dice.random() < 0.2:
                        raise Regretted
                committed.append((str(mine), subject, row.so_far))
            except Regretted:
                pass
    finally:
        close_all()


@live
def test_a_reader_gets_everything_that_was_committed_once_and_in_the_order_of_each_subject(live_world):
    """W-16: six writers, a fifth of what they do rolled back; followed all the while, three events at a time."""
    with scope(SERVICE):
        place = reading.now()
    subjects, committed, read = [uuid7() for _ in range(4)], [], []
    writers = [
        threading.Thread(target=write, args=(live_world.act, subjects, committed, seed)) for seed in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    is_over = False
    while not is_over:
        is_over = not any(writer.is_alive() for writer in writers)
        while True:
            with scope(SERVICE):
                batch = reading.following(place, most=3)
            read += [(event, batch.at(event)) for event in batch.events]
            place = batch.place
            if not batch.events:
                break

    assert sorted(event.data["user_id"] for event, _ in read) == sorted(mine for mine, _, _ in committed)
    assert len(read) > WRITERS * EACH / 2
    order = {mine: so_far for mine, _, so_far in committed}
    of_subject = defaultdict(list)
    for event, _ in read:
        of_subject[event.subject_id].append(order[event.data["user_id"]])
    assert all(seen == sorted(seen) and len(set(seen)) == len(seen) for seen in of_subject.values())
    # A client goes on behind any event it has seen, by the text of its place.
    _, middle = read[len(read) // 2]
    rest, place = [], reading.Place.parse(str(middle))
    while True:
        with scope(SERVICE):
            batch = reading.following(place)
        if not batch.events:
            break
        rest, place = rest + [event.pk for event in batch.events], batch.place
    assert sorted(rest) == sorted(event.pk for event, _ in read[len(read) // 2 + 1 :])


@live
def test_what_is_committed_late_is_read_late_and_holds_up_nobody_else(live_world):
    with scope(SERVICE):
        place = reading.now()
    late, early = uuid7(), uuid7()
    written, may_commit = threading.Event(), threading.Event()

    def linger():
        with scope(SERVICE):
            stream.publish(live_world.act.pk, "member.joined", subject=("user", late))
            written.set()
            may_commit.wait(20)
        close_all()

    slow = threading.Thread(target=linger)
    slow.start()
    written.wait(20)
    with scope(SERVICE):
        stream.publish(live_world.act.pk, "member.joined", subject=("user", early))
    with scope(SERVICE):
        before = reading.following(place)
    may_commit.set()
    slow.join()
    with scope(SERVICE):
        after = reading.following(before.place)

    assert [event.subject_id for event in before.events] == [early]
    assert [event.subject_id for event in after.events] == [late]


@live
def test_two_of_one_name_move_on_once_and_a_reader_that_fails_reads_again(live_world):
    list(reading.unread("somebody"))
    with scope(SERVICE):
        stream.publish(live_world.act.pk, "member.joined", subject=("user", uuid7()))

    first = reading.unread("somebody")
    seen = [event.pk for event in next(first)]
    first.close()  # it failed before it was done
    again = [event.pk for batch in reading.unread("somebody") for event in batch]

    assert seen == again
    assert len(seen) == 1
    assert list(reading.unread("somebody")) == []
    assert next(iter(reading.unread("somebody else")))[-1].pk == seen[0]  # a new one begins two minutes ago
    reading.begin_now("a third")
    assert list(reading.unread("a third")) == []


def test_who_begins_and_looks_in_one_open_transaction_is_not_taken_for_another_server_s(world):
    """Its own number may be beyond all that any look sees as coming, until it or a later one has ended."""
    reading.begin_now("a fourth")

    assert list(reading.unread("a fourth")) == []


@live
def test_rows_of_another_server_are_settled_in_before_anything_is_read(live_world):
    """A restore into a server that has counted fewer transactions: nothing is lost, nothing is read twice."""
    list(reading.unread("somebody"))
    with scope(SERVICE):
        stream.publish(live_world.act.pk, "member.joined", subject=("user", uuid7()))
    with connections["owner"].cursor() as cursor:
        with transaction.atomic(using="owner"):
            cursor.execute("grant update (xid) on events_event to app_service; set local role app_service")
            cursor.execute("update events_event set xid = xid + 5000000000")
            cursor.execute("select name, place from events_reader")
            for name, place in cursor.fetchall():
                later = ".".join(str(int(xid) + 5_000_000_000) for xid in place.split("."))
                cursor.execute("update events_reader set place = %s where name = %s", [later, name])
            cursor.execute("reset role; revoke update (xid) on events_event from app_service")
        with pytest.raises(reading.FromElsewhere):
            list(reading.unread("somebody"))
        with transaction.atomic(using="owner"):
            settling.settle_in(cursor)
    with scope(SERVICE):
        stream.publish(live_world.act.pk, "member.joined", subject=("user", uuid7()))

    read = [event for batch in reading.unread("somebody") for event in batch]

    assert len(read) == 2
    assert read[0].xid < 0 < read[1].xid


def test_the_reference_is_made_of_the_catalogue():
    """W-19"""
    assert (settings.BASE_DIR / "docs" / "events.md").read_text() == event_reference.reference()
    for kind in catalogue.KINDS.values():
        jsonschema.Draft202012Validator.check_schema(kind.schema)
    # What S2 counted as usage events, and S3 as types of analytics events that its own text names.
    also = " ".join(kind.also for kind in catalogue.KINDS.values())
    for name in ("conversation_start", "conversation_end", "limit_reached", "plan_change", "conversation_started"):
        assert name in also
    assert "message_sent" in also
    assert catalogue.is_for_hooks("conversation.*")
    assert not catalogue.is_for_hooks("conversation.")


def test_an_event_says_where_the_request_came_from_as_far_as_that_is_known(world, settings):
    """N1"""
    settings.COUNTRY_HEADER = "X-Country"
    visitor = uuid7()
    phone = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36"
    circumstances.begin(RequestFactory().get("/", headers={"user-agent": phone, "x-country": "nl"}))
    with scope(SERVICE):
        stream.publish(world.act.pk, "conversation.renamed", subject=("conversation", uuid7()))
        circumstances.note_visitor(visitor)
        stream.publish(world.act.pk, "conversation.pinned", subject=("conversation", uuid7()))
        stream.publish(world.act.pk, "member.joined", subject=("user", uuid7()))
        renamed, pinned, joined = Event.objects.order_by("-seq")[:3][::-1]
    circumstances.begin(RequestFactory().get("/", headers={"user-agent": "python-requests/2", "x-country": "XX"}))

    assert renamed.data == {"device": "phone", "country": "NL"}
    assert pinned.data == {"device": "phone", "country": "NL", "visitor_id": str(visitor)}
    assert joined.data == {}
    assert circumstances.known() == {}


def test_nobody_but_the_service_and_admins_reads_the_stream(world):
    """I-12"""
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        scope(Principal("app_user", world.act.pk, world.bob.pk)),
    ):
        reading.following(reading.now())


def test_a_name_that_is_not_in_the_catalogue_is_not_published(world):
    with scope(SERVICE), pytest.raises(KeyError):
        stream.publish(world.act.pk, "conversation.strated", subject=("conversation", uuid7()))


def test_the_command_writes_the_reference(tmp_path):
    call_command("event_reference", to=tmp_path / "events.md", verbosity=0)

    assert (tmp_path / "events.md").read_text() == event_reference.reference()
