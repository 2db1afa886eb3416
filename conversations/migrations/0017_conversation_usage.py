"""S2 `conversation_usage`: what each answer took, as a view over the turns, which shows what its reader may see."""

from django.db import migrations

# queue_ms: until the model that answered was asked; the calls that had failed before took it. Then its first piece.
VIEW = """
create view conversation_usage with (security_invoker = true) as
select t.id, t.brand_id, t.owner_id, t.conversation_id, t.message_id, t.provider_id, m.model, t.status,
       coalesce((m.token_usage ->> 'prompt_tokens')::bigint, 0) as prompt_tokens,
       coalesce((m.token_usage ->> 'completion_tokens')::bigint, 0) as completion_tokens,
       m.tokens_used as total_tokens, m.cost_microusd, t.pocket, waited.ms as queue_ms,
       waited.ms + t.first_piece_ms as first_token_ms,
       (extract(epoch from t.ended_at - t.created_at) * 1000)::bigint as total_ms,
       jsonb_build_object('usage', m.token_usage, 'attempts', t.attempts) as provider_data, t.created_at, t.ended_at
from conversations_turn t
join conversations_message m on m.id = t.message_id
cross join lateral (
    select coalesce(sum((attempt ->> 'ms')::bigint), 0)::bigint as ms from jsonb_array_elements(t.attempts) attempt
) waited
"""
RIGHTS = """
revoke all on conversation_usage from app_service;
grant select on conversation_usage to app_user, app_brand, app_service
"""


class Migration(migrations.Migration):
    dependencies = [("conversations", "0016_kept_from_the_last_message")]

    operations = [migrations.RunSQL([VIEW, RIGHTS], ["drop view conversation_usage"])]
