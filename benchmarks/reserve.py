"""How many reservations a second the meter takes, on one hot brand and on many, and whether it ever oversold.

The rows "with pockets" are of members who have a plan, packs and overage; a third each is paid from every one of them.

    python -m benchmarks.reserve [--seconds 4] [--threads 16] [--processes 2] [--brands 1000]

It works in a database of its own on the server of DATABASE_OWNER_URL and drops it at the end. Every operation is the
real ledger function on the real log-in, its connection taken from the pool and given back. The last column compares
with one bare conditional UPDATE, in the same run.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

DATABASE = "bench_reserve"
POOL_TOKENS = 10**12
TIGHT_TOKENS, WANTED_TOKENS = 500_000, 1_000  # room for 500 reservations: what is granted beyond them is oversold
MEMBERS = 64
GATES = {
    ("reserve", "hot"): 600,
    ("reserve", "spread"): 1500,
    ("reserve", "hot, pockets"): 600,
    ("reserve", "spread, pockets"): 1500,
}
OVERAGE = {  # a cap that is never reached
    "overage_allowed": True,
    "overage_by_default": True,
    "overage_price_microusd": 25_000,
    "overage_cap_microusd": 10**15,
    "is_billable": True,
}


def here(url: str, name: str = DATABASE) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def make_database() -> str:
    """Make an empty database with the walls of the product, and point this process and its children at it."""
    os.environ.setdefault("DEVELOPMENT", "1")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")
    from django.conf import settings

    owner = settings.DATABASES["owner"]
    urls = {
        variable: f"postgres://{row['USER']}:{row['PASSWORD']}@{row['HOST']}:{row['PORT']}/{DATABASE}"
        for variable, row in (
            ("DATABASE_URL", settings.DATABASES["default"]),
            ("DATABASE_SERVICE_URL", settings.DATABASES["service"]),
            ("DATABASE_OWNER_URL", owner),
        )
    }
    home = here(urls["DATABASE_OWNER_URL"], owner["NAME"])
    with psycopg.connect(home, autocommit=True) as admin:
        admin.execute(f"drop database if exists {DATABASE} with (force)")
        admin.execute(f"create database {DATABASE}")
        admin.execute(f"revoke connect, temporary on database {DATABASE} from public")
        admin.execute(f"grant connect on database {DATABASE} to web, worker")
    for row in settings.DATABASES.values():
        row["NAME"] = DATABASE
    os.environ.update(urls)
    return home


def seed(brands: int) -> dict[str, list[Any]]:
    """One hot brand with many members, a tight one, and `brands` with one member each. Returns who may ask where."""
    from django.core.management import call_command

    from accounts.models import Brand
    from lib.db import SERVICE, scope
    from lib.ids import uuid7
    from quotas import ledger
    from quotas.models import Account, Entitlement

    call_command("migrate", verbosity=0)
    with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as owner:
        owner.execute(
            "create table bare (id int primary key, most bigint, used bigint, held bigint) with (fillfactor = 50)"
        )
        owner.execute(f"insert into bare select i, {POOL_TOKENS}, 0, 0 from generate_series(0, {brands}) i")
        owner.execute("grant select, update on bare to app_public")
    who: dict[str, list[Any]] = {"hot": [], "spread": [], "tight": [], "hot, pockets": [], "spread, pockets": []}
    with scope(SERVICE):
        made = {
            "hot": [Brand(slug="hot", name="Hot", domain="hot.localhost")] * MEMBERS,
            "tight": [Brand(slug="tight", name="Tight", domain="tight.localhost")] * MEMBERS,
            "spread": [Brand(slug=f"b{i}", name=f"B{i}", domain=f"b{i}.localhost") for i in range(brands)],
            "hot, pockets": [Brand(slug="rich", name="Rich", domain="rich.localhost")] * MEMBERS,
            "spread, pockets": [Brand(slug=f"p{i}", name=f"P{i}", domain=f"p{i}.localhost") for i in range(brands)],
        }
        everyone = {brand.pk: brand for rows in made.values() for brand in rows}
        Brand.objects.bulk_create(everyone.values())
        accounts, entitlements = [], []

        def entitle(
            brand: Brand, kind: str, owner_id: Any, meter: str, window: str, limit: int | None, **features: Any
        ) -> None:
            account = Account(brand=brand, kind=kind, owner_id=owner_id, features=features)
            accounts.append(account)
            entitlements.append(
                Entitlement(brand=brand, owner_id=owner_id, account=account, meter=meter, window=window, limit=limit)
            )

        for brand in everyone.values():
            entitle(brand, "brand", brand.pk, "tokens", "month", TIGHT_TOKENS if brand.slug == "tight" else POOL_TOKENS)
        for case, rows in made.items():
            for number, brand in enumerate(rows):
                member, has_pockets = uuid7(), case.endswith("pockets")
                limit = 0 if has_pockets and number % 3 else 10**9
                entitle(brand, "user", member, "queries", "day", limit, **(OVERAGE if has_pockets else {}))
                who[case].append((brand.pk, member))
        Account.objects.bulk_create(accounts)
        Entitlement.objects.bulk_create(entitlements)
    for case in who:
        for number, (brand_id, member) in enumerate(who[case]):
            if case.endswith("pockets"):
                buy(ledger, everyone[brand_id], member, [1, 1] if number % 3 == 2 else [1, 10**9])
            for _ in range(3):  # opens each window, and uses up the small packs
                reservation = uuid7()
                ask(ledger, everyone[brand_id], member, reservation)
                ledger.settle(reservation, amounts={"queries": 1})
    with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as owner:
        owner.execute("vacuum analyze")
    return who


def buy(ledger: Any, brand: Any, member: Any, amounts: list[int]) -> None:
    for number, amount in enumerate(amounts):
        source = f"bench:{member}:{number}"
        fields = {"name": "Pack", "price_microusd": 0, "source": source, "reason": "benchmark"}
        ledger.grant_pack(brand, member, meter="queries", amount=amount, **fields)


def ask(ledger: Any, brand: Any, member: Any, reservation: Any) -> None:
    amounts = {"queries": 1, "tokens": WANTED_TOKENS}
    ledger.reserve(brand, asker=("user", member), amounts=amounts, reservation=reservation)


def work(
    operation: str,
    case: str,
    who: list[Any],
    threads: int,
    seconds: float,
    start: Any,
    results: Any,
) -> None:
    """One process: `threads` threads repeat `operation` until the time is over."""
    os.environ["WEB_POOL"] = str(threads)
    if operation == "reserve":  # its holds stay open: no cap; all else runs under the caps of the product
        os.environ |= {"CONCURRENT_TURNS_PER_MEMBER": "0", "CONCURRENT_TURNS_PER_BRAND": "0"}
    import django

    django.setup()
    from django.db import connections

    from accounts.models import Brand
    from lib.db import SERVICE, close_all, scope
    from lib.ids import uuid7
    from quotas import ledger
    from quotas.errors import QuotaExceeded

    people = [(Brand(pk=brand_id), member) for brand_id, member in who]
    took: list[float] = []
    refused = [0]

    def once(rng: random.Random) -> None:
        at = rng.randrange(len(people))
        brand, member = people[at]
        if operation == "bare":
            with connections["service"].cursor() as cursor:
                cursor.execute(
                    "update bare set held = held + %s where id = %s and used + held + %s <= most",
                    [WANTED_TOKENS, at if case == "spread" else 0, WANTED_TOKENS],
                )
            return
        reservation = uuid7()
        try:
            ask(ledger, brand, member, reservation)
        except QuotaExceeded:
            refused[0] += 1
        else:
            if operation == "reserve + settle":
                ledger.settle(reservation, amounts={"queries": 1, "tokens": WANTED_TOKENS // 2})

    def loop(number: int) -> None:
        rng = random.Random(number + os.getpid())
        with scope(SERVICE):
            pass
        close_all()
        start.wait()
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            try:
                once(rng)
            finally:
                close_all()
            took.append(time.perf_counter() - begun)

    pool = [threading.Thread(target=loop, args=[number]) for number in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    results.put((took, refused[0]))
    connections["service"].close_pool()  # type: ignore[attr-defined]


def run(operation: str, case: str, who: list[Any], *, processes: int, threads: int, seconds: float) -> dict[str, Any]:
    spawn = multiprocessing.get_context("spawn")
    start, results = spawn.Barrier(processes * threads), spawn.Queue()
    children = [
        spawn.Process(target=work, args=[operation, case, who, threads, seconds, start, results])
        for _ in range(processes)
    ]
    for child in children:
        child.start()
    found = [results.get(timeout=seconds + 60) for _ in children]
    for child in children:
        child.join(10)
    took = sorted(second for times, _ in found for second in times)
    return {
        "per_s": round(len(took) / seconds),
        "p50_ms": round(took[len(took) // 2] * 1000, 1),
        "p95_ms": round(took[len(took) * 95 // 100] * 1000, 1),
        "done": len(took),
        "refused": sum(refused for _, refused in found),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--threads", type=int, default=16, help="in each process")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--brands", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    home = make_database()
    import django

    django.setup()
    from django.db import connections

    from lib.db import SERVICE, scope
    from quotas import proof
    from quotas.models import Hold

    load = {"processes": options.processes, "threads": options.threads, "seconds": options.seconds}
    try:
        who = seed(options.brands)
        rows = [
            {"operation": operation, "brands": case, **run(operation, case, who[case], **load)}
            for case in ("hot", "spread", "hot, pockets", "spread, pockets")
            for operation in ("bare", "reserve + settle", "reserve")  # whose holds stay open: last, for the caps
            if operation != "bare" or not case.endswith("pockets")
        ]
        tight = run("reserve", "tight", who["tight"], **{**load, "seconds": min(2, options.seconds)})
        with scope(SERVICE):
            granted = Hold.objects.filter(brand_id=who["tight"][0][0], meter="tokens").count()
        drifts, proved = proof.drifts(), proof.counts()
    finally:
        for connection in connections.all():
            connection.close()
        connections["service"].close_pool()  # type: ignore[attr-defined]
        with psycopg.connect(home, autocommit=True) as admin:
            admin.execute(f"drop database {DATABASE} with (force)")

    bare = {row["brands"]: row["per_s"] for row in rows if row["operation"] == "bare"}
    for row in rows:
        row["of_bare"] = round(row["per_s"] / bare[row["brands"].removesuffix(", pockets")], 2)
        row["gate"] = GATES.get((row["operation"], row["brands"]))
    room = TIGHT_TOKENS // WANTED_TOKENS
    sound = granted == room and not drifts
    if options.json:
        print(json.dumps({"rows": rows, "granted": granted, "room": room, "drifts": len(drifts), **proved}))
    else:
        print(f"{'operation':18} {'brands':15} {'per s':>7} {'p50 ms':>8} {'p95 ms':>8} {'of bare':>8}  gate")
        for row in rows:
            gate = f"{'ok' if row['per_s'] >= row['gate'] else 'MISSED'} (>= {row['gate']})" if row["gate"] else ""
            print(
                f"{row['operation']:18} {row['brands']:15} {row['per_s']:7} {row['p50_ms']:8} {row['p95_ms']:8}"
                f" {row['of_bare']:8}  {gate}"
            )
        print(f"room for {room}: {granted} granted of {tight['done']} asked, {tight['refused']} refused")
        print(
            ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in proved.items()),
            "-",
            len(drifts),
            "drifts",
        )
    return 0 if sound and all(row["per_s"] >= (row["gate"] or 0) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
