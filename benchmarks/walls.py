"""What the walls cost, and how many statements a turn takes to begin.

    python -m benchmarks.walls

The same rows, read by a member under row-level security, and by the service without: what a page and a question need among
half a million rows of two hundred brands, and a list of 50 conversations out of 200,000.
"""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import Client  # noqa: E402

from accounts.models import Brand, User  # noqa: E402
from benchmarks import stage  # noqa: E402
from benchmarks.table import Row  # noqa: E402
from conversations.chats import listing, reading  # noqa: E402
from conversations.engine.preparing import MOST_HISTORY  # noqa: E402
from conversations.engine.statements import LOAD  # noqa: E402
from conversations.models import Conversation  # noqa: E402
from lib.db import SERVICE, Principal, scope, send  # noqa: E402
from tests import crowd, factories  # noqa: E402

CONVERSATIONS, OWNERS = 200_000, 400
ROWS = 500_000  # conversations, messages, turns and entries together
FILL = """
insert into conversations_conversation (id, brand_id, owner_id, title, created_at, updated_at, last_message_at)
select gen_random_uuid(), %(brand)s, case when n %% %(owners)s = 0 then %(owner)s else md5((n %% %(owners)s)::text)::uuid end,
       'Chat ' || n, now(), now(), now() - n * interval '1 second'
from generate_series(1, %(count)s) n
"""


def statements_of_a_turn(world: factories.World) -> Row:
    """Statements of one POST, from the session to the stored turn, without BEGIN and COMMIT."""
    settings.DB_INLINE = True  # on this thread, where they can be counted
    client = Client(HTTP_HOST="act.localhost")
    with scope(SERVICE):
        user = User.objects.get(pk=world.alice.pk)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    for text in ("warm up", "count"):
        for alias in ("default", "service"):
            connections[alias].force_debug_cursor = True
            connections[alias].queries_log.clear()
        response = client.post("/c/send/", {"text": text, "idempotency_key": text})
        assert response.status_code == 303, response.content[:300]
        told = [query["sql"] for alias in ("default", "service") for query in connections[alias].queries_log]
        counted = [sql for sql in told if not sql.upper().startswith(("BEGIN", "COMMIT", "ROLLBACK"))]
    return Row(
        "statements to begin a turn, with sign-in, brand and walls", str(len(counted)), "≤ 10", "6", len(counted) <= 10
    )


def cost_of_rls(world: factories.World) -> Row:
    names: dict[str, Any] = {"brand": world.act.pk, "owner": world.alice.pk, "owners": OWNERS, "count": CONVERSATIONS}
    with scope(SERVICE), connections["service"].cursor() as cursor:
        cursor.execute(FILL, names)
    with connections["owner"].cursor() as cursor:
        cursor.execute("analyze conversations_conversation")
    took: dict[str, list[float]] = {"walls": [], "none": []}
    member = Principal("app_user", world.act.pk, world.alice.pk)
    for number in range(400):
        for name, principal in (("walls", member), ("none", SERVICE)):
            with scope(principal):
                rows = Conversation.objects.filter(brand_id=world.act.pk, owner_id=world.alice.pk)
                began = time.perf_counter()
                found = list(rows.order_by("-last_message_at", "-id").values_list("id", "title")[:50])
                if number >= 50:
                    took[name].append(time.perf_counter() - began)
            assert len(found) == 50
    ms = {name: statistics.median(times) * 1000 for name, times in took.items()}
    ratio = ms["walls"] / ms["none"]
    return Row("RLS against the same query without", f"{ratio:.2f} ×", "≤ 1.2 ×", "1.05 ×", ratio <= 1.2,
               f"{ms['walls']:.2f} against {ms['none']:.2f} ms")  # fmt: skip


def cost_of_rls_among_many(world: factories.World) -> Row:
    """I-27: what a member's page and question read, with half a million rows of two hundred brands around them."""
    crowd.fill(world, conversations=ROWS // 4)
    member = Principal("app_user", world.act.pk, world.alice.pk)
    with scope(member):
        some = Conversation.objects.filter(title="A chat").values_list("pk", flat=True)[0]
    names = {"brand": member.brand_id, "owner": member.owner_id, "conversation": some, "prompt": None, "only_key": None}
    load = LOAD, {**names, "most": MOST_HISTORY, "most_bytes": 2**24}
    reads: dict[str, Callable[[], Any]] = {
        "the list": lambda: listing.sidebar(member, "UTC"),
        "a chat": lambda: reading.messages(member, some),
        "a question": lambda: send(load),
    }
    worst, notes = 0.0, []
    for name, read in reads.items():
        took: dict[str, list[float]] = {"walls": [], "none": []}
        for number in range(400):
            for which, principal in (("walls", member), ("none", SERVICE)):
                with scope(principal):
                    began = time.perf_counter()
                    read()
                    if number >= 50:
                        took[which].append(time.perf_counter() - began)
        ms = {which: statistics.quantiles(times, n=20)[-1] * 1000 for which, times in took.items()}
        worst = max(worst, ms["walls"] / ms["none"])
        notes.append(f"{name} {ms['walls']:.1f} against {ms['none']:.1f} ms")
    return Row(f"the same, p95 among {ROWS:,} rows of 200 brands, the worst of three", f"{worst:.2f} ×", "≤ 1.5 ×", "1.1 ×",
               worst <= 1.5, ", ".join(notes))  # fmt: skip


def measure() -> list[Row]:
    with stage.database("bench_walls"):
        world: Any = factories.make_world()
        assert Brand.objects.count() == 2
        return [statements_of_a_turn(world), cost_of_rls(world), cost_of_rls_among_many(world)]


if __name__ == "__main__":
    from benchmarks.table import show

    show(measure())
