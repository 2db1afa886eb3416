from django.db import migrations

# The twin of lib/folding.py; a landed migration is not edited, so a later change of the rules is one more migration.
# The collation is named, because lower() of a database that speaks C knows ASCII only: PostgreSQL's own from 17 on, before
# that ICU's, without which nobody builds it.
FOLD = r"""
do $do$ begin execute format($fold$
create function fold(text) returns text language sql immutable strict parallel safe as $$
    select translate(replace(replace(replace(
        regexp_replace(
            lower(normalize($1, nfkd) collate %I),
            '[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u0655\u0670]', '', 'g'),
        'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'ςøłđı', 'σoldi')
$$
$fold$, (select max(collname) from pg_collation
         where collname = case when current_setting('server_version_num')::int >= 170000 then 'pg_c_utf8' else 'unicode' end));
end $do$
"""
SPACED = r"""
create function spaced(text) returns text language sql immutable strict parallel safe as $$
    select regexp_replace(regexp_replace(public.fold($1),
        '[\u0001-/:-@\[-`{-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u05be\u05c0\u05c3\u060c\u061b\u061f\u066a-\u066d\u06d4\u0964\u0965\u2000-\u206f\u2190-\u25ff\u2e00-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\ufe00-\ufe0f\ufff0-\uffff]+',
        ' ', 'g'),
        '([\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff][\u3099\u309a]?)',
        ' \1 ', 'g')
$$
"""
# No text may be refused because its list of words is too long for a tsvector (1 MB): then its beginning is found.
SEARCHABLE = """
create function searchable(text) returns tsvector language plpgsql immutable strict parallel safe as $$
begin
    return to_tsvector('pg_catalog.simple', public.spaced(left($1, 200000)));
exception when program_limit_exceeded then
    return to_tsvector('pg_catalog.simple', public.spaced(left($1, 20000)));
end
$$
"""
KEEP_MESSAGE = """
create function keep_message_searchable() returns trigger language plpgsql as $$
begin
    new.searchable := case when new.role in ('user', 'assistant') and new.content <> ''
                           then public.searchable(new.content) end;
    return new;
end
$$
"""
KEEP_TITLE = """
create function keep_title_searchable() returns trigger language plpgsql as $$
begin
    new.searchable := public.searchable(new.title);
    return new;
end
$$
"""


class Migration(migrations.Migration):
    """Kept by triggers, and in columns that no model knows: whoever reads rows does not read their words too.

    A generated column would rewrite the table while nobody may read it (ADR 9).
    """

    dependencies = [("conversations", "0018_pending_message")]

    operations = [
        migrations.RunSQL(FOLD, "drop function fold"),
        migrations.RunSQL(SPACED, "drop function spaced"),
        migrations.RunSQL(SEARCHABLE, "drop function searchable"),
        migrations.RunSQL(KEEP_MESSAGE, "drop function keep_message_searchable"),
        migrations.RunSQL(KEEP_TITLE, "drop function keep_title_searchable"),
        migrations.RunSQL(
            "alter table conversations_message add searchable tsvector",
            "alter table conversations_message drop searchable",
        ),
        migrations.RunSQL(
            "alter table conversations_conversation add searchable tsvector",
            "alter table conversations_conversation drop searchable",
        ),
        migrations.RunSQL(
            "create trigger searchable before insert or update of content on conversations_message"
            " for each row execute function keep_message_searchable()",
            "drop trigger searchable on conversations_message",
        ),
        migrations.RunSQL(
            "create trigger searchable before insert or update of title on conversations_conversation"
            " for each row execute function keep_title_searchable()",
            "drop trigger searchable on conversations_conversation",
        ),
    ]
