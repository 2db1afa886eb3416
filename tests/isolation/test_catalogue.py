"""The database's own catalogue, checked by enumeration, so that a new table is tested without being remembered."""

import pytest
from django.db import connections

from chatsite.isolation import CHECKS, catalogue, rights

pytestmark = pytest.mark.django_db(transaction=True)

# Who may do what with the rows a policy shows: s(elect) i(nsert) u(pdate) d(elete), by role. Changed by hand, on
# purpose: whoever gives a role a right reads this page.
RIGHTS = {
    "account_emailaddress": {"app_door": "siud", "app_service": "siud"},
    "account_emailconfirmation": {"app_door": "siud", "app_service": "siud"},
    "accounts_apikey": {"app_user": "siu", "app_brand": "siu", "app_service": "siud", "app_lookup": "s"},
    "accounts_brand": {"app_public": "s", "app_service": "siud", "app_lookup": "s"},
    "accounts_idempotencyrecord": {
        "app_user": "siud",
        "app_visitor": "siud",
        "app_brand": "siud",
        "app_service": "siud",
    },
    "accounts_invitation": {"app_brand": "siud", "app_service": "siud"},
    "accounts_membership": {"app_user": "s", "app_brand": "siud", "app_service": "siud", "app_lookup": "s"},
    "accounts_profile": {"app_user": "siu", "app_service": "siud"},
    "accounts_supportgrant": {"app_brand": "s", "app_service": "siud"},
    "accounts_user": {"app_door": "siu", "app_service": "siud", "app_lookup": "s"},
    "accounts_user_groups": {"app_service": "siud"},
    "accounts_user_user_permissions": {"app_service": "siud"},
    "accounts_visitor": {"app_visitor": "su", "app_brand": "s", "app_service": "siud", "app_lookup": "s"},
    "agents_agent": {"app_user": "siud", "app_brand": "siud", "app_service": "siud"},
    "auth_group": {"app_service": "siud"},
    "auth_group_permissions": {"app_service": "siud"},
    "auth_permission": {"app_service": "siud"},
    "billing_billingtransaction": {"app_user": "s", "app_brand": "s", "app_service": "siu"},
    "billing_creditpackoffer": {"app_user": "s", "app_visitor": "s", "app_brand": "s", "app_service": "siud"},
    "billing_customer": {"app_service": "siu"},
    "billing_overagereport": {"app_service": "siu"},
    "billing_plan": {"app_user": "s", "app_visitor": "s", "app_brand": "s", "app_service": "siud"},
    "billing_planlimit": {"app_user": "s", "app_visitor": "s", "app_brand": "s", "app_service": "siud"},
    "billing_standinobject": {"app_service": "siud"},
    "billing_standinrequest": {"app_service": "siud"},
    "billing_stripeevent": {"app_service": "siud"},
    "billing_subscription": {"app_user": "s", "app_brand": "s", "app_service": "siud"},
    "billing_subscriptionhistory": {"app_user": "s", "app_brand": "s", "app_service": "si"},
    "conversations_attachment": {"app_user": "siud", "app_service": "siud"},
    "conversations_brandtemplate": {"app_user": "s", "app_visitor": "s", "app_brand": "siud", "app_service": "siud"},
    "conversations_conversation": {"app_user": "siud", "app_visitor": "siu", "app_brand": "s", "app_service": "siud"},
    "conversations_correction": {"app_user": "siud", "app_service": "siud"},
    "conversations_feedback": {"app_user": "siud", "app_service": "siud"},
    "conversations_export": {"app_user": "si", "app_service": "siud"},
    "conversations_look": {"app_service": "siud"},
    "conversations_message": {"app_user": "siud", "app_visitor": "siu", "app_brand": "s", "app_service": "siud"},
    "conversations_template": {"app_user": "siud", "app_service": "siud"},
    "conversations_pendingmessage": {"app_user": "su", "app_visitor": "sid", "app_service": "siud"},
    "conversations_share": {"app_user": "siu", "app_service": "siud"},
    "conversations_turn": {"app_user": "si", "app_visitor": "si", "app_brand": "s", "app_service": "siud"},
    "django_admin_log": {"app_service": "siud"},
    "django_content_type": {"app_service": "siud"},
    "django_migrations": {"app_public": "s", "app_service": "siud"},
    "django_session": {"app_door": "siud", "app_service": "siud"},
    "events_activity": {"app_user": "i", "app_brand": "si", "app_service": "si"},
    "events_activityhead": {"app_service": "s", "app_lookup": "siu"},
    "events_activitylink": {"app_service": "s", "app_lookup": "si"},
    "events_activityorigin": {"app_user": "i", "app_brand": "si", "app_service": "sid"},
    "events_alarm": {"app_service": "siud"},
    "events_blockedaddress": {"app_service": "siud"},
    "events_deadletter": {"app_service": "siud"},
    "events_emaillog": {"app_service": "siud"},
    "events_event": {"app_user": "i", "app_visitor": "i", "app_brand": "si", "app_service": "si"},
    "events_notification": {"app_user": "su", "app_brand": "su", "app_service": "siud"},
    "events_noticepreference": {"app_user": "siud", "app_service": "siud"},
    "events_reader": {"app_service": "siud"},
    "events_webhookdelivery": {"app_brand": "siu", "app_service": "siud"},
    "events_webhookendpoint": {"app_brand": "siud", "app_service": "siud"},
    "mfa_authenticator": {"app_door": "siud", "app_service": "siud"},
    "providers_aiprovider": {"app_public": "s", "app_service": "siud"},
    "providers_fallback": {"app_user": "s", "app_visitor": "s", "app_brand": "siud", "app_service": "siud"},
    "providers_place": {"app_user": "s", "app_visitor": "s", "app_brand": "siud", "app_service": "siud"},
    "providers_providerkey": {"app_user": "siud", "app_service": "siud"},
    "providers_price": {"app_public": "s", "app_service": "siud"},
    "providers_systemprompt": {"app_user": "s", "app_visitor": "s", "app_brand": "siud", "app_service": "siud"},
    "quotas_account": {"app_user": "s", "app_visitor": "s", "app_brand": "s", "app_service": "siud"},
    "quotas_bucket": {"app_user": "s", "app_visitor": "s", "app_brand": "s", "app_service": "siu"},
    "quotas_entitlement": {"app_user": "s", "app_visitor": "s", "app_brand": "s", "app_service": "siu"},
    "quotas_entry": {"app_user": "s", "app_brand": "s", "app_service": "si"},
    "quotas_hold": {"app_user": "s", "app_brand": "s", "app_visitor": "s", "app_service": "siud"},
    "quotas_pack": {"app_user": "s", "app_brand": "s", "app_service": "siu"},
    "quotas_usagelog": {"app_user": "s", "app_brand": "s", "app_service": "si"},
    "socialaccount_socialaccount": {"app_door": "siud", "app_service": "siud"},
    "socialaccount_socialapp": {"app_door": "s", "app_service": "siud"},
    "socialaccount_socialtoken": {"app_door": "sd", "app_service": "siud"},
    "usersessions_usersession": {"app_door": "siud", "app_service": "siud"},
    # views, which show what their reader may see
    "conversation_usage": {"app_user": "s", "app_brand": "s", "app_service": "s"},
    "daily_quota_usage": {"app_user": "s", "app_brand": "s", "app_service": "s"},
    "quota_transactions": {"app_user": "s", "app_brand": "s", "app_service": "s"},
}

BREACHES = {
    "every_table_is_walled": [
        "alter table conversations_message no force row level security",
        "alter table quotas_pack disable row level security",
        "create table accounts_forgotten (id uuid primary key, brand_id uuid not null)",
        "create table lookup.hidden (id uuid primary key)",
        "alter table agents_agent alter brand_id drop not null",
    ],
    "every_policy_compares_columns": [
        "drop policy brand on conversations_message",
        "create policy shortcut on conversations_message to app_user using (true)",
        "alter policy member on conversations_message using (true)",
        "alter policy member on conversations_message with check (brand_id is not null)",
        "alter policy member on conversations_message to app_user, app_visitor",
        "alter policy member on conversations_message using"
        " (brand_id = nullif(current_setting('app.brand_id', true), '')::uuid)",
        "alter policy visitor on accounts_visitor using"
        " (brand_id = (select nullif(current_setting('app.brand_id', true), '')::uuid))",
        "create policy lookup on conversations_message for select to app_lookup using (true)",
    ],
    "every_key_carries_the_brand": [
        "alter table conversations_message drop constraint conversations_message_conversation_id_of_same_brand",
        "alter table conversations_message alter owner_id drop not null",
        "alter table conversations_message add constraint loose foreign key (conversation_id) "
        "references conversations_conversation (id)",
        "alter table conversations_message drop constraint conversations_message_conversation_id_of_same_brand, "
        "add constraint half foreign key (brand_id, owner_id, conversation_id) "
        "references conversations_conversation (brand_id, owner_id, id) not valid",
        "create table accounts_note (id uuid primary key, about uuid references conversations_conversation (id))",
        "create trigger asleep after insert on "
        "conversations_message execute function public.guard_staff_flags(); "
        "alter table conversations_message disable trigger asleep",
    ],
    "every_unique_key_keeps_quiet": ["create unique index chatty on agents_agent (slug)"],
    "every_right_was_meant": [
        "grant select on conversations_message to public",
        "grant select on conversations_message to web",
        "grant select on daily_quota_usage to app_visitor; grant update on quota_transactions to app_user",
        "grant select on quota_transactions to app_public",
        "grant truncate on conversations_message to app_user",
        "grant select on conversations_message to app_public",
        "grant select (content) on conversations_message to app_public",
        "grant select on conversations_message to app_user with grant option",
        "grant delete on accounts_user to app_public",
        "revoke update on accounts_user from app_door",
        "grant select on accounts_user to app_public",
        "grant select on auth_group to app_brand",
        "grant select on conversations_message to app_lookup",
        "grant delete on events_activitylink to app_lookup",
        "grant usage on sequence django_admin_log_id_seq to app_public",
        "grant create on schema public to app_public",
        "grant create on schema lookup to app_lookup",
        "alter default privileges in schema public grant select on tables to app_user",
        "do $$ begin execute format('grant temporary on database %I to public', current_database()); end $$",
    ],
    "every_function_is_known": [
        "create function lookup.anything() returns bigint language sql security definer set search_path = pg_catalog, pg_temp"
        " as 'select count(*) from public.conversations_message'",
        "create function public.standing() returns int language sql security definer as 'select 1'",
        "set role app_lookup; grant execute on function lookup.standing to public",
        "set role app_lookup; alter function lookup.standing reset all",
        "set role app_lookup; drop function lookup.api_key",
    ],
    "every_view_obeys_its_reader": [
        "alter view daily_quota_usage reset (security_invoker)",
        "create view everything as select * from conversations_message",
        "create materialized view everything as select * from conversations_message; grant select on everything to app_user",
        "create rule quiet as on delete to conversations_message do instead nothing",
    ],
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_catalogue_says_that(check, as_owner):
    """I-20, I-24, I-25: on the database as the migrations made it."""
    with as_owner() as cursor:
        proof = check(cursor)

    assert proof.faults == []
    assert proof.count or check.__name__ == "every_view_obeys_its_reader"


@pytest.mark.parametrize(("check", "breach"), [(check, breach) for check in BREACHES for breach in BREACHES[check]])
def test_each_check_names_a_breach_and_none_without_it(check, breach, as_owner):
    prove = next(one for one in CHECKS if one.__name__ == check)
    with as_owner() as cursor:
        cursor.execute(breach)
        faults = prove(cursor).faults

    assert faults


def test_a_role_that_may_become_more_is_named():
    """The owner cannot do this, and no log-in of ours can: so the check is told of a role that is not in its table."""
    with connections["owner"].cursor() as cursor, pytest.MonkeyPatch.context() as patch:
        patch.setitem(rights.MAY_BECOME, "web", ("app_user",))
        faults = rights.every_role_is_bounded(cursor).faults

    assert faults == [
        "web may become app_brand, and must not",
        "web may become app_visitor, and must not",
    ]


def test_the_rights_are_the_ones_on_this_page(as_owner):
    """PLUMBING 3 (8): every table, every role; the owner's own apart."""
    letters = {"select": "s", "insert": "i", "update": "u", "delete": "d"}
    found = {}
    with as_owner() as cursor:
        for (table, role), given in rights.grants(cursor).items():
            assert given <= letters.keys(), (table, role, given)
            found.setdefault(table, {})[role] = "".join(letter for right, letter in letters.items() if right in given)
        assert found.keys() >= catalogue.tables(cursor).keys()

    assert found == RIGHTS
