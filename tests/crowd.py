"""Rows of many brands beside those of the cast, for what must stay fast and plannable at size (I-27)."""

from typing import Any

from django.db import connections

from accounts.models import Brand
from lib.db import SERVICE, scope
from tests.factories import World

BRANDS, OWNERS = 200, 10
BIG = {
    "conversations_conversation",
    "conversations_message",
    "conversations_turn",
    "quotas_account",
    "quotas_entitlement",
    "quotas_bucket",
    "quotas_entry",
}
# For each brand, owners 0 to 9; owner 0 of the first brand is alice.
EVERYBODY = """
with brand (id, number) as (select * from unnest(%(brands)s::uuid[]) with ordinality),
person as (
    select brand.id as brand_id, n, case when n = 0 and brand.number = 1 then %(alice)s::uuid
                                         else md5(brand.id::text || n)::uuid end as id
    from brand, generate_series(0, %(owners)s - 1) n
), chat as (
    select person.brand_id, person.id as owner_id, md5('c' || person.id || k)::uuid as id,
           md5('m' || person.id || k)::uuid as message_id,
           md5('t' || person.id || k)::uuid as turn_id, now() - k * interval '1 minute' as at
    from person, generate_series(1, %(each)s) k
)"""
FILL = [
    """insert into conversations_conversation (id, brand_id, owner_id, title, created_at, updated_at, last_message_at)
       select id, brand_id, owner_id, 'A chat', at, at, at from chat""",
    """insert into conversations_message (id, brand_id, owner_id, conversation_id, role, content, status, turn_id, created_at)
       select message_id, brand_id, owner_id, id, 'assistant', 'Hello', 'done', turn_id, at from chat""",
    """insert into conversations_turn (id, brand_id, owner_id, conversation_id, message_id, provider_id, status,
                                       heartbeat_at, created_at, ended_at)
       select turn_id, brand_id, owner_id, id, message_id, %(provider)s, 'done', at, at, at from chat""",
    """insert into quotas_account (id, brand_id, owner_id, kind, plan_code, plan_name, features, created_at)
       select md5('a' || id)::uuid, brand_id, id, 'user', '', '', '{}', now() from person where id <> %(alice)s""",
    """insert into quotas_entitlement (id, brand_id, owner_id, account_id, meter, "window", "limit", created_at)
       select gen_random_uuid(), brand_id, id, md5('a' || id)::uuid, meter, 'month', 1000, now()
       from person, unnest(array['queries', 'tokens']) meter where id <> %(alice)s""",
    """insert into quotas_bucket (id, brand_id, owner_id, account_id, meter, pocket, "window", lock_rank, opens_at, "limit",
                                  used, held, created_at)
       select md5('b' || id || meter)::uuid, brand_id, id, md5('a' || id)::uuid, meter, 'plan', 'month', 2, now(), 0, 0, 0,
              now()
       from person, unnest(array['queries', 'tokens']) meter where id <> %(alice)s""",
    """insert into quotas_entry (id, brand_id, owner_id, bucket_id, kind, limit_delta, used_delta, reservation,
                                 cost_microusd, reason, created_at)
       select gen_random_uuid(), brand_id, owner_id, md5('b' || owner_id || 'queries')::uuid, 'use', 0, 0, turn_id, 0, '', at
       from chat where owner_id <> %(alice)s""",
]


def fill(world: World, *, conversations: int) -> None:
    """That many conversations over 200 brands, with as many messages, turns and entries; alice has her share."""
    others = [Brand(slug=f"s{n}", name=f"S{n}", domain=f"s{n}.localhost") for n in range(BRANDS - 1)]
    names: dict[str, Any] = {
        "brands": [world.act.pk, *(brand.pk for brand in others)],
        "alice": world.alice.pk,
        "owners": OWNERS,
        "each": max(1, conversations // BRANDS // OWNERS),
        "provider": world.demo.pk,
    }
    with scope(SERVICE), connections["service"].cursor() as cursor:
        Brand.objects.bulk_create(others)
        for insert in FILL:
            columns, select = insert.split("select ", 1)
            cursor.execute(f"{columns} {EVERYBODY} select {select}", names)
    with connections["owner"].cursor() as cursor:
        for table in sorted(BIG):
            cursor.execute(f"analyze {table}")
