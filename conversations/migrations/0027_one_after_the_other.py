from django.db import migrations

# As in 0022, and: a question whose id was made before another one's was stored is refused, because a path in order of ids is
# the conversation. Its asker has not seen what was said meanwhile. What integrators record is no turn, and may come late.
HANG = """
create or replace function hang_message() returns trigger language plpgsql as $$
begin
    new.parent_id := (select id from public.conversations_message
                      where conversation_id = new.conversation_id and is_current order by id desc limit 1);
    if new.parent_id > new.id and new.turn_id is not null then
        raise check_violation using message = 'messages come one after the other';
    end if;
    return new;
end
$$
"""
AS_BEFORE = """
create or replace function hang_message() returns trigger language plpgsql as $$
begin
    new.parent_id := (select id from public.conversations_message
                      where conversation_id = new.conversation_id and is_current order by id desc limit 1);
    return new;
end
$$
"""


class Migration(migrations.Migration):
    dependencies = [("conversations", "0026_conversations_pinned")]

    operations = [migrations.RunSQL(HANG, AS_BEFORE)]
