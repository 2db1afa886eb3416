"""A member's history and search among a million chats and a million messages of 200 brands.

    python -m benchmarks.history [--quick]

The rows are made with the tables bare, as by COPY, and indexed then. The pages are asked in this process, through the
middleware, under row-level security; what is timed is the server's part.
"""

import gc
import os
import statistics
import sys
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
from benchmarks import search, stage  # noqa: E402
from benchmarks.table import Row  # noqa: E402
from lib.db import SERVICE, scope  # noqa: E402
from tests import factories  # noqa: E402

BRANDS, OWNERS = 200, 10  # and alice, who has as many as somebody who writes all day for a year
ALICES = 5_000
TEXTS = 20_000  # different messages
TABLES = ("conversations_conversation", "conversations_message")
BARE = """
select 'drop index ' || indexrelid::regclass, pg_get_indexdef(indexrelid) from pg_index
where indrelid = any(array['conversations_conversation', 'conversations_message']::regclass[])
      and not exists (select from pg_constraint where conindid = indexrelid)
"""
CHATS = """
insert into conversations_conversation (id, brand_id, owner_id, title, created_at, updated_at, last_message_at, message_count,
                                        searchable)
select uuidv7(-age), brand, owner, title, now() - age, now() - age, now() - age, 1, title_words
from (select n, n * interval '10 seconds' as age, n <= %(alices)s as is_alices,
             (%(brands)s::uuid[])[case when n <= %(alices)s then 1 else 1 + n %% %(count)s end] as brand
      from generate_series(1, %(rows)s) n) made,
     lateral (select case when is_alices then %(alice)s::uuid
                          else md5(brand::text || made.n %% %(owners)s)::uuid end as owner) o,
     lateral (select left(text, 60) as title, title_words from text where text.n = 1 + made.n %% %(texts)s) t
"""
MESSAGES = """
insert into conversations_message (id, brand_id, owner_id, conversation_id, role, content, status, model, created_at,
                                   searchable)
select uuidv7(c.last_message_at - now()), c.brand_id, c.owner_id, c.id,
       case when random() < 0.5 then 'user' else 'assistant' end, text.text, 'done', 'demo', c.last_message_at, text.words
from (select *, row_number() over () as n from conversations_conversation) c
join text on text.n = 1 + (c.n * 7919) %% %(texts)s
"""


def fill(world: factories.World, rows: int) -> None:
    """That many chats with a message each; alice of act has ALICES of them, the newest."""
    others = [Brand(slug=f"s{n}", name=f"S{n}", domain=f"s{n}.localhost") for n in range(BRANDS - 1)]
    with scope(SERVICE):
        Brand.objects.bulk_create(others)
    names: dict[str, Any] = {
        "brands": [world.act.pk, *(brand.pk for brand in others)],
        "count": BRANDS,
        "owners": OWNERS,
        "alice": world.alice.pk,
        "alices": min(ALICES, rows // 10),
        "rows": rows,
        "texts": TEXTS,
    }
    with connections["owner"].cursor() as cursor:
        cursor.execute(BARE)
        indexes = cursor.fetchall()
        for drop, _ in indexes:
            cursor.execute(drop)
        for table in TABLES:
            cursor.execute(f"alter table {table} no force row level security, disable trigger user")
        cursor.execute("create table text (n int primary key, text text, words tsvector, title_words tsvector)")
        with cursor.copy("copy text (n, text) from stdin") as copy:
            for number, text in enumerate(search.texts(TEXTS), 1):
                copy.write_row((number, text))
        cursor.execute("update text set words = searchable(text), title_words = searchable(left(text, 60))")
        cursor.execute(CHATS, names)
        cursor.execute(MESSAGES, names)
        for table in TABLES:
            cursor.execute(f"alter table {table} force row level security, enable trigger user")
        for _, create in indexes:
            cursor.execute(create)
        cursor.execute("drop table text")
        cursor.execute("vacuum analyze conversations_conversation, conversations_message")


def p95(work: Callable[[], Any], times: int) -> float:
    """Milliseconds, without the first calls, which fill caches."""
    took = []
    for number in range(times + 5):
        began = time.perf_counter()
        work()
        if number >= 5:
            took.append(time.perf_counter() - began)
    return statistics.quantiles(took, n=20)[-1] * 1000


def statements(work: Callable[[], Any]) -> int:
    for alias in ("default", "service"):
        connections[alias].force_debug_cursor = True
        connections[alias].queries_log.clear()
    work()
    told = [query["sql"] for alias in ("default", "service") for query in connections[alias].queries_log]
    for alias in ("default", "service"):
        connections[alias].force_debug_cursor = False
    return sum(not sql.upper().startswith(("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")) for sql in told)


def pages(world: factories.World, rows: int, times: int) -> list[Row]:
    settings.DB_INLINE = True  # on this thread, where statements can be counted
    client = Client(HTTP_HOST="act.localhost")
    with scope(SERVICE):
        user = User.objects.get(pk=world.alice.pk)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")

    def get(path: str) -> Callable[[], None]:
        def ask() -> None:
            response = client.get(path)
            assert response.status_code == 200, (path, response.status_code, response.content[:300])

        return ask

    found = []
    for name, path in (
        ("history page of 50", "/history/"),
        ("the same, sorted by title", "/history/?sort=title&order=desc"),
        ("REST list of 50", "/api/v1/conversations?limit=50"),
        ("page of search", "/search/?q=house"),
    ):
        if client.get(path).status_code in (404, 405):  # not there yet
            continue
        ms, count = p95(get(path), times), statements(get(path))
        found.append(Row(f"{name}, among {rows:,} chats, server time p95; statements", f"{ms:.0f} ms; {count}",
                         "≤ 25 ms; ≤ 8", "15 ms; 5", ms <= 25 and count <= 8))  # fmt: skip
    return found


def measure(*, quick: bool = False) -> list[Row]:
    rows, times = (20_000, 30) if quick else (1_000_000, 200)
    with stage.database("bench_history"):
        world = factories.make_world()
        began = time.perf_counter()
        fill(world, rows)
        gc.collect()
        gc.freeze()  # as chatsite.web does at its start
        print(f"{rows:,} chats and messages filled and indexed in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        return [*pages(world, rows, times), *search.measure(world, rows, times)]


if __name__ == "__main__":
    from benchmarks.table import show

    show(measure(quick="--quick" in sys.argv))
