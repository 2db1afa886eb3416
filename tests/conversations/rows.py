"""What the database says of a turn when all is over."""

from conversations.models import OPEN_STATES, Message, Turn
from lib.db import SERVICE, scope
from quotas.models import Entry, Hold


def stored(turn_id):
    """A turn and its answer; a program's call leaves none."""
    with scope(SERVICE):
        turn = Turn.objects.get(pk=turn_id)
        return turn, Message.objects.filter(pk=turn.message_id).first()


def kept(turn_id) -> str:
    """What a crash would leave of an answer that is being written: its text at the last checkpoint."""
    with scope(SERVICE):
        return Turn.objects.get(pk=turn_id).partial


def has_begun(person) -> bool:
    """Whether a word of an answer to them has come, as of the last checkpoint."""
    return any(turn.produced_tokens for turn in of(person))


def charged(turn_id) -> dict[str, int]:
    """What the asker and the brand were charged for a turn, by meter; each line once."""
    with scope(SERVICE):
        assert not Hold.objects.filter(reservation=turn_id).exists(), "the hold is still open"
        lines = Entry.objects.filter(reservation=turn_id).exclude(bucket__pocket="house")
        found = list(lines.values_list("bucket__meter", "used_delta"))
        assert len(found) == len(dict(found)), "a meter was charged twice"
        return dict(found)


def of(person) -> list[Turn]:
    """Every turn of a person, oldest first."""
    with scope(SERVICE):
        return list(Turn.objects.filter(owner_id=person.user.pk).order_by("id"))


def running(person) -> int:
    return sum(turn.status in OPEN_STATES for turn in of(person))


def leftovers(person) -> dict[str, int]:
    """How much of a person there is in the tables a refused request must not touch."""
    with scope(SERVICE):
        return {
            "messages": Message.objects.filter(owner_id=person.user.pk).count(),
            "turns": Turn.objects.filter(owner_id=person.user.pk).count(),
            "holds": Hold.objects.filter(brand=person.brand).count(),
        }
