"""The statements of a turn's life; beginning, turns and finishing say when each is sent, and as whom."""

from conversations.engine.paying import KEYS
from events.stream import INTO, ROW

_LOAD = """
select c.id, c.title, c.is_counted, c.provider_id, c.system_prompt_id, c.system_prompt,
       c.context_type, c.context_id, c.context_label,
       c.settings::json,  -- Django leaves jsonb as text in cursors of one's own
       -- Null when it is too large: the sizes are read without what they measure.
       (with recursive {path} m as materialized (
            select id, role, content, function_call, metadata, files, file_text, deleted_at from conversations_message
            where conversation_id = c.id and (role <> 'assistant' or content <> '' or function_call is not null
                                          or deleted_at is not null) and {until}
            order by id desc limit %(most)s)
        select case when (select sum(octet_length(content)::bigint + octet_length(file_text) + pg_column_size(metadata)
                                     + coalesce(pg_column_size(function_call), 0)) from m) > %(most_bytes)s
               then null
               else (select coalesce(json_agg(json_build_object(
                         'id', m.id, 'role', m.role, 'content', m.content, 'parts', m.metadata -> 'parts',
                         'name', m.metadata ->> 'name', 'function_call', m.function_call,
                         'files', m.files, 'file_text', m.file_text,
                         'is_deleted', m.deleted_at is not null) order by m.id), '[]')
                     from m) end) as history,
       (select prompt_text from providers_systemprompt
        where id = coalesce(%(prompt)s::uuid, c.system_prompt_id) and is_active) as prompt_text,
       {own} {more}
from (select 1) one {after}
left join conversations_conversation c on c.id = {conversation} and c.deleted_at is null
     and (%(only_key)s::uuid is null or c.source = 'api' and {by_key})
"""
# `only_key` is a key that may not read what is its person's: it reaches what was asked with itself alone.
_OF_A_CHAT = {
    "path": "",
    "until": "is_current",
    "more": "",
    "after": "",
    "conversation": "%(conversation)s",
    "by_key": """not exists (
         select from conversations_turn where conversation_id = c.id and api_key_id is distinct from %(only_key)s::uuid)""",
}
# The member's own keys, and how often their plan lets them ask. A visitor has neither, and no right to look.
_MEMBERS = f"""{KEYS} as own_keys,
       (select rate_limit_per_minute from accounts_membership
        where brand_id = %(brand)s and user_id = %(owner)s) as calls_a_minute"""  # noqa: S608
_VISITORS = "null::json as own_keys, null::int as calls_a_minute"
LOAD = _LOAD.format(**_OF_A_CHAT, own=_MEMBERS)
LOAD_FOR_VISITOR = _LOAD.format(**_OF_A_CHAT, own=_VISITORS)
# The way from the first message of a chat to this one, itself included.
_PATH = """path as (
            select id, parent_id from conversations_message where id = {leaf}
            union all
            select p.id, p.parent_id from conversations_message p join path on p.id = path.parent_id)"""
_ON_PATH = "id in (select id from path)"
# What a program continues by naming an answer: the conversation up to there. Later messages make it a fork.
LOAD_AFTER = _LOAD.format(
    own=_MEMBERS,
    path=_PATH.format(leaf="a.id") + ",",
    until=_ON_PATH,
    more="""
       , a.status as after_status,
       exists (select from conversations_message where conversation_id = c.id and id > a.id) as is_fork""",
    after="""
left join conversations_turn t on t.id = %(after)s
left join conversations_message a on a.id = t.message_id""",
    conversation="a.conversation_id",
    by_key="t.api_key_id = %(only_key)s::uuid",
)

# What stands beside a message, an edited question or another answer, has the same way behind it.
_BESIDE = _OF_A_CHAT | {
    "path": _PATH.format(leaf="b.parent_id") + ",",
    "until": _ON_PATH,
    "more": """
       , b.id as beside, b.parent_id, b.provider_id as beside_provider, b.role, b.status, b.content,
       b.deleted_at is not null as is_deleted,
       b.files::json, b.file_text,
       (select count(*) from conversations_message s
        where s.conversation_id = c.id and s.parent_id is not distinct from b.parent_id) as versions""",
    "after": """
left join conversations_message b on b.id = %(beside)s""",
    "conversation": "b.conversation_id",
}
LOAD_BESIDE = _LOAD.format(**_BESIDE, own=_MEMBERS)
LOAD_BESIDE_FOR_VISITOR = _LOAD.format(**_BESIDE, own=_VISITORS)

NEW_CONVERSATION = """
insert into conversations_conversation (id, brand_id, owner_id, title, model, provider_id, system_prompt_id, source,
                                        metadata, message_count, is_counted, settings, system_prompt,
                                        context_type, context_id, context_label, continues_id,
                                        created_at, updated_at, last_message_at)
values (%(conversation)s, %(brand)s, %(owner)s, %(title)s, %(model)s, %(provider)s, %(prompt)s, %(source)s,
        %(metadata)s, %(messages)s, false, %(settings)s, %(own_prompt)s,
        %(context_type)s, %(context_id)s, %(context_label)s, %(continues)s, now(), now(), now())
returning id
"""
# A visitor who signs up at this moment has no row any more: then there is nobody whose chat it could be.
VISITOR = """visitor as (
    update accounts_visitor set last_seen_at = now() where id = %(owner)s returning id
), """
NEW_CONVERSATION_OF_VISITOR = """
insert into conversations_conversation (id, brand_id, owner_id, owner_kind, visitor_id, title, model, provider_id,
                                        system_prompt_id, source, metadata, message_count, is_counted, settings,
                                        system_prompt, context_type, context_id, context_label, created_at,
                                        updated_at, last_message_at)
select %(conversation)s, %(brand)s, visitor.id, 'visitor', visitor.id, %(title)s, %(model)s, %(provider)s, %(prompt)s,
       %(source)s, %(metadata)s, %(messages)s, false, %(settings)s::jsonb, %(own_prompt)s, %(context_type)s,
       %(context_id)s, %(context_label)s, now(), now(), now()
from visitor
returning id
"""
_OLD_CONVERSATION = """
update conversations_conversation
set message_count = message_count + %(messages)s, last_message_at = now(), updated_at = now() {choice}
where id = %(conversation)s and deleted_at is null
returning id
"""
OLD_CONVERSATION = _OLD_CONVERSATION.format(
    choice=", model = %(model)s, provider_id = %(provider)s, system_prompt_id = %(prompt)s"
)
SAME_CONVERSATION = _OLD_CONVERSATION.format(
    choice=""
)  # another model for one answer is no choice for the next question
# What is said: a page's question, or all that a program sent; and the answer's row, which exists before its first word.
# The first of them has no parent here: the database hangs it on the end of the path (trigger `hang`).
QUESTION = """(values (%(question)s::uuid, %(parent)s::uuid, %(edited)s::uuid, %(turn)s::uuid, 'user', %(text)s, 'done',
                       null::jsonb, '{}'::jsonb, %(files)s::jsonb, %(file_text)s),
                      (%(answer)s, %(question)s, null, %(turn)s, 'assistant', '', 'pending', null, '{}', '[]', ''))
        m (id, parent_id, edited_from_id, turn_id, role, content, status, function_call, metadata, files, file_text)"""
ANSWER = """(values (%(answer)s::uuid, %(parent)s::uuid, null::uuid, %(turn)s::uuid, 'assistant', '', 'pending', null::jsonb,
                     '{}'::jsonb, '[]'::jsonb, ''))
        m (id, parent_id, edited_from_id, turn_id, role, content, status, function_call, metadata, files, file_text)"""
EXCHANGE = """jsonb_to_recordset(%(said)s::jsonb)
        m (id uuid, parent_id uuid, edited_from_id uuid, turn_id uuid, role text, content text, status text,
           function_call jsonb, metadata jsonb, files jsonb, file_text text)"""
# What goes with the question is the message's from now on.
HANDED = """, handed as (
    delete from conversations_attachment
    where id = any(%(attachments)s::uuid[]) and brand_id = %(brand)s and owner_id = %(owner)s
)"""
# No turn without its hold: a process that slept so long that the reaper gave the hold back begins nothing.
BEGIN = """
with {before}conversation as ({conversation}), said as (
    insert into conversations_message (id, parent_id, edited_from_id, brand_id, owner_id, conversation_id, role, content,
                                       status, turn_id, function_call, metadata, files, file_text, provider_id,
                                       system_prompt_id, model, model_name, created_at)
    select m.id, m.parent_id, m.edited_from_id, %(brand)s, %(owner)s, conversation.id, m.role, m.content, m.status, m.turn_id,
           m.function_call, m.metadata, coalesce(m.files, '[]'), coalesce(m.file_text, ''), %(provider)s,
           %(prompt)s, %(model)s, %(model_name)s, now()
    from conversation, {said}
), kept as (
    update accounts_idempotencyrecord set status = 200, body = %(body)s where id = %(turn)s
){beside}
insert into conversations_turn (id, brand_id, owner_id, conversation_id, message_id, provider_id, api_key_id, sent, partial,
                                prompt_tokens_estimate, held_tokens, pocket, request_id, heartbeat_at, created_at)
select %(turn)s, %(brand)s, %(owner)s, conversation.id, %(answer)s, %(provider)s, %(key)s, %(sent)s, %(partial)s,
       %(prompt_tokens)s, %(held_tokens)s, %(pocket)s, %(request)s, now(), now()
from conversation where exists (select from quotas_hold where reservation = %(turn)s)
returning id
"""
_SAID = ROW.replace("%(", "%(said_")
SAID = f", news as ({INTO} {_SAID})"  # beside BEGIN: it saves a statement
BEGUN_AND_SAID = f", news as ({INTO} {ROW}, {_SAID})"
# The path that is shown is the one to this message. Sent after what wrote it, or after LOCK: another statement's snapshot
# is older than the lock that it waited for, and would leave two messages of one place on the path.
SHOW = f"""
with recursive {_PATH.format(leaf="%(leaf)s")}
update conversations_message set is_current = not is_current
where conversation_id = %(conversation)s and is_current <> ({_ON_PATH}) and exists (select from path)
"""  # noqa: S608
BEGIN_UNSTORED = """
insert into conversations_turn (id, brand_id, owner_id, provider_id, api_key_id, prompt_tokens_estimate, held_tokens,
                                pocket, request_id, heartbeat_at, created_at)
select %(turn)s, %(brand)s, %(owner)s, %(provider)s, %(key)s, %(prompt_tokens)s, %(held_tokens)s,
       %(pocket)s, %(request)s, now(), now()
where exists (select from quotas_hold where reservation = %(turn)s)
returning id
"""

CHECKPOINT = """
update conversations_turn t
set heartbeat_at = now(), partial = coalesce(v.text, t.partial), produced_tokens = v.tokens,
    status = case when v.tokens > 0 then 'streaming' else t.status end,
    first_piece_at = case when v.tokens > 0 then coalesce(t.first_piece_at, now()) end
from unnest(%(ids)s::uuid[], %(texts)s::text[], %(tokens)s::bigint[]) v (id, text, tokens)
where t.id = v.id and t.status in ('pending', 'streaming')
returning t.id, t.stop_asked_at is not null as is_to_stop
"""
ASK_TO_STOP = """
update conversations_turn set stop_asked_at = coalesce(stop_asked_at, now())
where id = %(turn)s and brand_id = %(brand)s and owner_id = %(owner)s and status in ('pending', 'streaming')
returning id
"""
UNWELCOME = """
select t.id from conversations_turn t left join accounts_apikey k on k.id = t.api_key_id
where t.id = any(%(ids)s) and (lookup.standing(t.brand_id, t.owner_id) is null
      or (t.api_key_id is not null and not coalesce(k.is_active and (k.expires_at is null or k.expires_at > now())
          and (not k.is_brands or lookup.standing(t.brand_id, t.owner_id) in ('admin', 'owner')), false)))
"""

# The reaper knew the last checkpoint only; whoever wrote the answer has seen more of it.
KEEP = """
update conversations_message m set content = %(text)s
from conversations_turn t
where t.id = %(turn)s and t.status = 'interrupted' and m.id = t.message_id and m.deleted_at is null
      and length(m.content) < length(%(text)s) and starts_with(%(text)s, m.content)
"""
ENDED = """
select t.status, t.is_charged, t.error_code, t.produced_tokens, m.content, m.error_detail, m.cost_microusd,
       (m.token_usage ->> 'prompt_tokens')::bigint as prompt_tokens, m.token_usage ->> 'finish_reason' as finish_reason,
       (m.token_usage ->> 'cached_tokens')::bigint as cached_tokens,
       (m.token_usage ->> 'reasoning_tokens')::bigint as reasoning_tokens, m.function_call::json
from conversations_turn t left join conversations_message m on m.id = t.message_id
where t.id = %(turn)s and t.status not in ('pending', 'streaming')
"""

# Which model answers a turn, and which were asked before it.
ASKED = """
select t.provider_id, t.attempts::json, m.metadata ->> 'instead_of' as instead_of
from conversations_turn t left join conversations_message m on m.id = t.message_id
where t.id = %(turn)s
"""

# Before the other model is asked, so that whoever ends the turn knows whose price it is.
HAND_OVER = """
with turn as (
    update conversations_turn set provider_id = %(provider)s, attempts = %(attempts)s
    where id = %(turn)s and status in ('pending', 'streaming')
    returning id, message_id
), answer as (
    update conversations_message m
    set provider_id = %(provider)s, model = %(model)s, model_name = %(model_name)s,
        metadata = metadata || jsonb_build_object('instead_of', %(instead_of)s::text)
    from turn where m.id = turn.message_id
)
select id from turn
"""

# Rows are locked in one order, by whoever writes several: the conversation, its turn, its messages, then the accounts. BEGIN
# and whoever turns versions hold the conversation first, so this does too, before it touches the turn.
FINISH = """
with held as (
    select id from conversations_conversation
    where id = (select conversation_id from conversations_turn where id = %(turn)s)
    for no key update
), ended as (
    update conversations_turn
    set status = %(status)s, partial = '', produced_tokens = %(completion_tokens)s, ended_at = now(),
        is_charged = %(is_charged)s, error_code = %(error_code)s, first_piece_ms = %(first_piece_ms)s,
        attempts = coalesce(%(attempts)s, attempts)
    where (select count(*) from held) >= 0 and id = %(turn)s and status in ('pending', 'streaming')
    returning id, brand_id, owner_id, conversation_id, message_id, pocket
), answered as (
    update conversations_message m
    set content = %(text)s, status = %(status)s, error_code = %(error_code)s, error_detail = %(error_detail)s,
        function_call = %(function_call)s,
        is_charged = %(is_charged)s, tokens_used = %(tokens)s, cost_microusd = %(cost)s, token_usage = %(usage)s,
        response_time_ms = %(ms)s
    from ended where m.id = ended.message_id
), summed as (
    update conversations_conversation c
    set total_tokens_used = total_tokens_used + %(tokens)s, total_cost_microusd = total_cost_microusd + %(cost)s,
        is_counted = c.is_counted or (%(is_charged)s and ended.pocket <> 'own_key'),
        last_message_at = now(), updated_at = now()
    from ended where c.id = ended.conversation_id
)
select brand_id, owner_id, conversation_id, message_id, pocket from ended
"""

# A look that comes late was preceded by a time in which nobody could look: the database was away, or the worker.
LOOK = """
insert into conversations_look as l (id, seen_at, blind_from, blind_until)
select 1, at, at, at from (select statement_timestamp() as at) this
on conflict (id) do update
set blind_from = case when excluded.seen_at - l.seen_at > %(late)s then l.seen_at else l.blind_from end,
    blind_until = case when excluded.seen_at - l.seen_at > %(late)s then excluded.seen_at else l.blind_until end,
    seen_at = greatest(l.seen_at, excluded.seen_at)
returning blind_until - blind_from > %(long)s and blind_until > statement_timestamp() - %(patience)s as was_long_blind
"""
_SEEN_FOR = "statement_timestamp() - {since} - greatest(blind_until - greatest({since}, blind_from), interval '0')"
LOST = f"""
select t.id from conversations_turn t, conversations_look
where t.status in ('pending', 'streaming') and t.heartbeat_at < statement_timestamp() - %(patience)s
      and {_SEEN_FOR.format(since="t.heartbeat_at")} > %(patience)s
order by t.heartbeat_at limit %(most)s
"""  # noqa: S608
# Holds of turns that were never begun.
ORPHANS = f"""
select distinct h.reservation as id from quotas_hold h, conversations_look
where h.purpose = 'turn' and h.created_at < statement_timestamp() - %(patience)s
      and {_SEEN_FOR.format(since="h.created_at")} > %(patience)s
      and not exists (select from conversations_turn t where t.id = h.reservation)
limit %(most)s
"""  # noqa: S608
