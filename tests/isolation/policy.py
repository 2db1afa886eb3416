"""Who gets what, route by route: the page that somebody changes on purpose when a route is added (I-01)."""

import re
from dataclasses import dataclass
from typing import Any

METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
SAFE = {"GET", "HEAD"}

NOBODY = {  # for pages these are nobody: a key opens no page, and a suspended person's session is over
    "anonymous", "suspended", "key", "key_wrong_scope", "key_other_brand", "key_revoked", "key_of_removed",
    "key_of_suspended", "visitor", "visitor_other",
}  # fmt: skip
STRANGERS = {"other_brand", "removed", "staff", "staff_with_grant", "helper"}  # signed in, no member of this brand
MEMBERS = {"owner", "same_brand", "brand_admin", "other_brand_at_home"}  # of the brand whose host they ask
STAFF = {"staff", "staff_with_grant", "helper"}  # the helper has no permission on anything
KEYS = {
    "key": 200,
    "key_wrong_scope": 403,
    "key_other_brand": 200,  # it asks as its own brand's member, whatever the host
}
ACTORS = sorted(NOBODY | STRANGERS | MEMBERS)

QUESTION = {"text": "hello"}
COMPLETION = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}
MESSAGE = {**COMPLETION, "max_tokens": 100}
RESPONSE = {"model": "demo", "input": "hello"}
EMBEDDING = {"model": "demo-embedding", "input": "hello"}


@dataclass(frozen=True)
class Member:
    """Our pages for members. `own` = the row in the address is its owner's alone, also towards the brand's admins."""

    methods: frozenset[str]
    status: int = 200
    own: bool = False
    method_first: bool = False  # asked before who it is
    body: tuple[tuple[str, str], ...] = ()
    looked_at: int = 0  # the status of GET and HEAD, where it is another

    def answer(self, actor: str, method: str) -> set[int]:
        if self.method_first and method not in self.methods:
            return {405}
        if actor in NOBODY:
            return {302}
        if actor in STRANGERS:
            return {404}
        if method not in self.methods:
            return {405}
        status = (method in SAFE and self.looked_at) or self.status
        return {status} if actor == "owner" or not self.own else {404}


@dataclass(frozen=True)
class Asker:
    """What a visitor may do too: begin a chat, as anybody may, and with `own` read and go on with one of their own.

    A visitor who asks for anything else is led to sign in, as nobody is.
    """

    member: Member
    own: bool = True

    @property
    def body(self) -> tuple[tuple[str, str], ...]:
        return self.member.body

    def answer(self, actor: str, method: str) -> set[int]:
        if actor == "visitor_other" and method not in self.member.methods:
            return {405}
        may = actor == "visitor" or (not self.own and actor in NOBODY)
        return self.member.answer("owner" if may else actor, method)


@dataclass(frozen=True)
class Admin:
    """Pages of the brand's admins and owners; for its members there is nothing here. `own` = the row is of that brand."""

    methods: frozenset[str]
    status: int = 200
    body: tuple[tuple[str, str], ...] = ()
    own: bool = False

    def answer(self, actor: str, method: str) -> set[int]:
        if actor in NOBODY:
            return {302}
        if actor not in {"brand_admin", "other_brand_at_home"}:
            return {404}
        if method not in self.methods:
            return {405}
        return {404 if self.own and actor == "other_brand_at_home" else self.status}


@dataclass(frozen=True)
class Key:
    methods: frozenset[str]
    body: tuple[tuple[str, object], ...] = tuple(COMPLETION.items())
    own: bool = False  # the row in the address is the person's alone

    def answer(self, actor: str, method: str) -> set[int]:
        if self.own and actor == "key_other_brand" and method in self.methods:
            return {404}
        return {405} if method not in self.methods else {KEYS.get(actor, 401)}


@dataclass(frozen=True)
class Api:
    """Our own REST: keys with a scope, and members in a browser (the test's browser sends no CSRF token, nor is asked)."""

    methods: frozenset[str]
    status: int = 200
    body: tuple[tuple[str, object], ...] = ()
    own: bool = False  # the row in the address is the person's alone
    for_sessions: bool = True
    key_wrong_scope: int = 403
    for_visitors: bool = False
    lacking: bool = False  # no key of the cast has its scope
    for_brand: bool = False  # for admins and owners of the brand that is asked

    def answer(self, actor: str, method: str) -> set[int]:
        if method not in self.methods:
            return {405}
        if self.lacking and actor in KEYS:
            return {403}
        if self.for_brand and actor not in NOBODY:
            if actor not in {"brand_admin", "other_brand_at_home"}:
                return {404}
            return {404 if self.own and actor == "other_brand_at_home" else self.status}
        if actor == "key_wrong_scope":
            return {self.key_wrong_scope}
        if actor in KEYS:
            return {404 if self.own and actor == "key_other_brand" else self.status}
        if self.for_visitors and actor in ("visitor", "visitor_other"):
            return {self.status}
        if actor in NOBODY or not self.for_sessions:
            return {401}
        return {404 if actor in STRANGERS or (self.own and actor != "owner") else self.status}


@dataclass(frozen=True)
class Apis:
    """One address, a rule for each of its methods."""

    rules: tuple[Api, ...]

    @property
    def methods(self) -> frozenset[str]:
        return frozenset().union(*(rule.methods for rule in self.rules))

    def of(self, method: str) -> Api:
        return next((rule for rule in self.rules if method in rule.methods), self.rules[0])

    def answer(self, actor: str, method: str) -> set[int]:
        return self.of(method).answer(actor, method)


@dataclass(frozen=True)
class Anybody:
    """Statuses for who is signed in and who is not; a method that is not named is a 405 for all."""

    anonymous: tuple[tuple[str, int], ...]
    signed_in: tuple[tuple[str, int], ...]

    def answer(self, actor: str, method: str) -> set[int]:
        return {dict(self.anonymous if actor in NOBODY else self.signed_in).get(method, 405)}


def anybody(anonymous: dict[str, int], signed_in: dict[str, int]) -> Anybody:
    return Anybody(tuple(anonymous.items()), tuple(signed_in.items()))


def safe(status: int) -> dict[str, int]:
    return dict.fromkeys(SAFE, status)


def every(status: int) -> dict[str, int]:
    return dict.fromkeys(METHODS, status)


def form(sent: int = 200) -> dict[str, int]:
    """A form of allauth, sent without what it asks for. PUT is its POST."""
    return {**safe(200), "OPTIONS": 200, "POST": sent, "PUT": sent}


TOLD = {**safe(200), "OPTIONS": 200}  # a page that only says something
POST, READ = frozenset({"POST"}), frozenset(SAFE)
ALL_OWN = Api(READ, key_wrong_scope=200)  # a list of one's own
OF_BRAND: dict[str, Any] = {"lacking": True, "for_brand": True}
OWN_ROW = Api(READ, key_wrong_scope=200, own=True)
ROUTES: dict[str, "Rule"] = {
    "conversations:home": anybody(safe(200), safe(302)),
    "conversations:new": Member(READ),
    "conversations:new-about": Member(READ),
    "conversations:welcome": Member(frozenset({"GET"}), 302, method_first=True),
    "conversations:detail": Asker(Member(READ, own=True)),
    "conversations:start": Asker(Member(POST, 303, method_first=True, body=tuple(QUESTION.items())), own=False),
    "conversations:send": Asker(Member(POST, 303, own=True, method_first=True, body=tuple(QUESTION.items()))),
    "conversations:stream": Asker(Member(frozenset({"GET"}), own=True, method_first=True)),
    "conversations:stop": Asker(Member(POST, 303, own=True, method_first=True)),
    "conversations:more": Member(READ),
    "conversations:facts": Member(READ, own=True),
    "conversations:keep-one": Member(POST, 303, own=True, body=(("do", "archive"),)),
    "conversations:history": Member(READ),
    "conversations:keep": Member(POST, 400, body=(("do", "archive"),)),
    "conversations:undo": Member(POST, 400),
    # There, where the brand shares its history, which neither of these does: test_brand_chats.py.
    "conversations:everybodys": anybody(every(302), every(404)),
    "conversations:everybodys-chat": anybody(every(302), every(404)),
    "conversations:manage": Admin(READ),
    "conversations:manage-chats": Admin(READ),
    "conversations:manage-chat": Admin(READ, own=True),
    "conversations:empty-bin": Member(POST, 303),
    "conversations:message": Asker(Member(READ, 303, own=True)),
    "conversations:message-markdown": Asker(Member(READ, own=True)),
    "conversations:message-edit": Asker(
        Member(READ | POST, 303, own=True, method_first=True, body=tuple(QUESTION.items()))
    ),
    "conversations:message-again": Asker(Member(POST, 303, own=True, method_first=True)),
    "conversations:message-continue": Asker(Member(POST, 303, own=True, method_first=True)),
    "conversations:summarise": Asker(Member(POST, 303, own=True, method_first=True)),
    "conversations:message-version": Asker(Member(POST, 303, own=True, body=(("by", "1"),))),
    "conversations:message-delete": Asker(Member(POST, 303, own=True)),
    "conversations:message-restore": Asker(Member(POST, 303, own=True)),
    "conversations:message-rate": Member(POST, 303, own=True, body=(("rating", "1"),)),
    "conversations:message-correct": Member(POST, 303, own=True, body=(("text", "Rather this."),)),
    "conversations:search": Member(READ),
    "conversations:palette": Member(READ),
    "conversations:attach": Member(POST, 400),  # nothing is sent
    "conversations:attachment": Member(READ, own=True),
    "conversations:remove-attachment": Member(POST, 302),  # what is not there needs no removing
    "conversations:options": Member(POST, 303, own=True, body=(("do", "reset"),)),
    "conversations:templates": Member(READ),
    "conversations:change-template": Member(POST, 303, body=(("do", "add"), ("title", "A"), ("text", "B"))),
    "conversations:template-choices": Member(READ),
    "conversations:export-one": Member(frozenset({"GET"}), own=True),
    "conversations:export": Member(READ | POST, 400, looked_at=303),
    "conversations:download": Member(frozenset({"GET"}), 404),
    "conversations:cancel-export": Member(POST, 303, own=True),
    "conversations:import": Member(READ | POST, 400, looked_at=303),
    "conversations:your-data": Member(READ),
    "conversations:take-everything": Member(POST, 302),  # to the password first
    "conversations:share": Member(READ, own=True),
    "conversations:make-link": Member(POST, 303, own=True, body=(("days", "7"),)),
    "conversations:revoke-share": Member(POST, 303, own=True),
    "conversations:shared": anybody({"GET": 404}, {"GET": 404}),  # nobody can guess a link
    "conversations:manage-models": Admin(READ),
    "conversations:manage-chain": Admin(POST, 303, body=(("do", "up"),)),
    "conversations:manage-place": Admin(POST, 400, body=(("do", "up"),)),
    "conversations:manage-templates": Admin(READ),
    "conversations:change-brand-template": Admin(POST, 303, body=(("do", "add"), ("title", "A"), ("text", "B"))),
    "stay-signed-in": Member(POST, 204),
    "api-keys": Member(READ),
    "change-api-key": Member(POST, 302, body=(("do", "make"),)),  # to the password first
    "manage-api-keys": Admin(READ),
    "change-brand-api-key": Admin(POST, 302, body=(("do", "make"),)),
    "pricing": anybody(safe(200), safe(200)),
    "plan-and-usage": Member(READ),
    "notifications": Member(READ),
    "bell": Member(READ),
    "read-notifications": Member(POST, 303),
    "read-notification": Member(POST, 303, own=True),
    # Nobody can guess a signed address, and no mail provider is set up here.
    "mail-opened": anybody({"GET": 404}, {"GET": 404}),
    "mail-link": anybody({"GET": 404}, {"GET": 404}),
    "stop-mails": anybody({**safe(404), "POST": 404}, {**safe(404), "POST": 404}),
    "mail-reports": anybody({"POST": 404}, {"POST": 404}),
    "deliveries": Admin(READ),
    "delivery-of-mail": Admin(READ, own=True),
    "send-mail-again": Admin(POST, 409, own=True),  # it is on its way
    "try-address-again": Member(POST, 303),
    "overage": Member(POST, 400, body=(("cap", "ten"),)),
    "change-plan": Member(READ | POST, 303),
    "cancel-plan": Member(READ | POST, 400),  # nobody here pays for anything that could be cancelled
    "resume-plan": Member(POST, 303),
    "subscribe": Member(POST, 303),
    "buy-pack": Member(POST, 303),
    "store-card": Member(POST, 303),
    "billing-portal": Member(POST, 303),
    "billing-return": Member(READ, 400),
    "manage-plan": Admin(READ),
    "own-keys": Member(READ),
    "manage-activity": Admin(READ),
    "take-activity": Admin(READ),
    "manage-activity-line": Admin(READ, own=True),
    "manage-webhooks": Admin(READ),
    "manage-new-webhook": Admin(READ),
    "manage-make-webhook": Admin(POST, 422, body=(("name", ""),)),
    "manage-webhook-tester": Admin(READ | POST),
    "manage-webhook": Admin(READ, own=True),
    "manage-change-webhook": Admin(READ, own=True),
    "manage-save-webhook": Admin(POST, 422, body=(("name", ""),), own=True),
    "manage-webhook-act": Admin(POST, 303, body=(("do", "off"),), own=True),
    "manage-webhook-delivery": Admin(READ, own=True),
    "manage-send-webhook-again": Admin(POST, 303, own=True),
    "manage-settings": Admin(READ),
    "manage-members": Admin(READ),
    "change-member": Admin(POST, 400),
    "change-invitation": Admin(POST, 400),
    "change-brand": Admin(POST, 422),
    "settings": Member(READ),
    "change-setting": Member(POST, 303, body=(("field", "company_name"), ("company_name", "Ferrow"))),
    "change-notices": Member(POST, 303, body=(("kind", "system"), ("in_app", "on"), ("mail", "daily"))),
    "change-avatar": Member(POST, 422),
    "avatar": anybody(safe(404), safe(404)),  # a guessed address; with the right one, whoever has it
    "end-session": Member(POST, 303, body=(("session", "others"),)),
    "delete-account": Member(READ | POST, 302),  # to the password first
    "change-own-key": Member(POST, 303, method_first=True, body=(("do", "delete"), ("vendor", "openai"))),
    "chat-completions": Key(POST),
    "messages": Key(POST, body=tuple(MESSAGE.items())),
    "count-tokens": Key(POST),
    "responses": Key(POST, body=tuple(RESPONSE.items())),
    "response": Key(frozenset({"GET", "DELETE"}), own=True),
    "response-input-items": Key(frozenset({"GET"}), own=True),
    "embeddings": Key(POST, body=tuple(EMBEDDING.items())),
    "models": Key(frozenset({"GET"})),
    "model": Key(frozenset({"GET"})),
    "can": ALL_OWN,
    "quota-check": ALL_OWN,
    "track": Api(POST, 201, for_sessions=False),
    "daily-usage": ALL_OWN,
    "api-schema": anybody(safe(200), safe(200)),
    "api-docs": anybody(safe(200), safe(200)),
    "api-docs-key": Member(POST, 302),  # to the password first
    "usage": ALL_OWN,
    "conversation-limit": ALL_OWN,
    "ai-providers": ALL_OWN,
    "system-prompts": ALL_OWN,
    "rest-chat": Api(POST, body=(("message", "hello"),)),
    "rest-answer": OWN_ROW,
    "rest-stop": Api(POST, 204, own=True, key_wrong_scope=204),
    "chat-history": ALL_OWN,
    "chat-details": OWN_ROW,
    "rest-conversations": Apis((ALL_OWN, Api(POST, 201, body=(("title", "Elsewhere"),), for_sessions=False))),
    "search-conversations": Api(READ, 400, key_wrong_scope=400),  # for nothing
    "conversation-stats": ALL_OWN,
    "rest-conversation": Apis(
        (
            OWN_ROW,
            Api(frozenset({"PATCH"}), own=True, key_wrong_scope=200, body=(("title", "Another"),)),
            Api(frozenset({"DELETE"}), 204, own=True, key_wrong_scope=204),
        )
    ),
    "archive-conversation": Api(POST, own=True, key_wrong_scope=200),
    "unarchive-conversation": Api(POST, own=True, key_wrong_scope=200),
    "rest-messages": Apis(
        (OWN_ROW, Api(POST, 201, body=(("role", "user"), ("content", "hello")), own=True, for_sessions=False))
    ),
    "rest-webhooks": Apis((Api(READ, **OF_BRAND), Api(POST, 400, **OF_BRAND))),
    "rest-webhook": Apis(
        (
            Api(READ, own=True, **OF_BRAND),
            Api(frozenset({"PATCH"}), own=True, **OF_BRAND),
            Api(frozenset({"DELETE"}), 204, own=True, **OF_BRAND),
        )
    ),
    "rest-webhook-secret": Api(POST, own=True, **OF_BRAND),
    "rest-webhook-replay": Apis((Api(READ, 400, **OF_BRAND), Api(POST, own=True, **OF_BRAND))),  # of no range
    "rest-webhook-test": Api(POST, 201, own=True, **OF_BRAND),
    "rest-deliveries": Api(READ, own=True, **OF_BRAND),
    "rest-delivery": Api(READ, own=True, **OF_BRAND),
    "rest-replay": Api(POST, own=True, **OF_BRAND),
    # What makes or changes a key asks a session first who is there; these sessions proved it long ago.
    "rest-api-keys": Apis((Api(READ, lacking=True), Api(POST, 403, lacking=True))),
    "rest-api-key": Apis(
        (
            Api(READ, own=True, lacking=True),
            Api(frozenset({"PATCH"}), 403, lacking=True),
            Api(frozenset({"DELETE"}), 204, own=True, lacking=True),
        )
    ),
    "rest-rotate-api-key": Api(POST, 403, lacking=True),
    "rest-brand-api-keys": Apis((Api(READ, own=True, **OF_BRAND), Api(POST, 403, **OF_BRAND))),
    "rest-brand-api-key": Apis(
        (
            Api(READ, own=True, **OF_BRAND),
            Api(frozenset({"PATCH"}), 403, **OF_BRAND),
            Api(frozenset({"DELETE"}), 204, own=True, **OF_BRAND),
        )
    ),
    "rest-rotate-brand-api-key": Api(POST, 403, **OF_BRAND),
    "rest-activity": Api(READ, **OF_BRAND),
    "rest-notifications": Api(READ, lacking=True),
    "rest-read-all": Api(POST, lacking=True),
    "rest-read": Api(POST, 204, own=True, lacking=True),
    "brand-stats": Api(READ, for_brand=True, lacking=True, own=True),
    # Asked for no topic. What there is to hear for whom: test_realtime.py.
    "realtime": Api(frozenset({"GET"}), 400, for_visitors=True, key_wrong_scope=400),
    # Whoever has the link of a session may use it, as at Stripe. Nobody can guess one.
    "stand-in:checkout": anybody({**safe(404), "POST": 404}, {**safe(404), "POST": 404}),
    "stand-in:portal": anybody({**safe(404), "POST": 404}, {**safe(404), "POST": 404}),
    "stand-in:invoice": anybody(safe(404), safe(404)),
    "accounts:join": anybody({"POST": 302}, {"POST": 302}),
    "confirm-by-mail": anybody({**safe(302), "POST": 302}, {**safe(302), "POST": 302}),  # who has a password uses that
    "accounts:invited": anybody({**safe(404), "POST": 404}, {**safe(404), "POST": 404}),  # nobody can guess a link
    # Apps sign in with what they send: no cookie and no key counts here, and nothing was sent.
    "app-signup": anybody(*[{"OPTIONS": 200, "POST": 400}] * 2),
    "app-login": anybody(*[{**every(400), "GET": 405}] * 2),
    "app-authenticate": anybody(every(401), every(401)),
    "app-request": anybody(*[{**every(400), "GET": 405}] * 2),
    "app-session": anybody(*[{**safe(401), "DELETE": 401, "OPTIONS": 200}] * 2),
    "app-refresh": anybody(*[{**every(400), "GET": 405}] * 2),
    "healthz": anybody(every(200), every(200)),
    "readyz": anybody(every(200), every(200)),
    "metrics": anybody(every(404), every(404)),  # but for who has the operator's token
    # allauth's: who is signed in is led on from the ways in, and who is not is led to them from what is about oneself.
    "account_login": anybody(form(), every(302)),
    "account_signup": anybody(form(), every(302)),
    "account_logout": anybody({**safe(302), "OPTIONS": 200, "POST": 302}, {**TOLD, "POST": 302}),
    "account_inactive": anybody(TOLD, TOLD),
    "account_reauthenticate": anybody(every(302), form()),
    "account_email": anybody(every(302), form(302)),
    "stripe-webhook": anybody({"POST": 400}, {"POST": 400}),  # nobody but Stripe can sign
    "account_email_verification_sent": anybody(TOLD, TOLD),
    "account_confirm_email": anybody({**TOLD, "POST": 404}, {**TOLD, "POST": 404}),
    "account_change_password": anybody(every(302), form()),
    "account_set_password": anybody(every(302), every(302)),
    "account_reset_password": anybody(form(), form()),
    "account_reset_password_done": anybody(TOLD, TOLD),
    "account_reset_password_from_key": anybody(every(200), every(200)),  # "This link does not work any more"
    "account_reset_password_from_key_done": anybody(TOLD, TOLD),
    "account_confirm_login_code": anybody(every(302), every(302)),
    "mfa_index": anybody(every(302), TOLD),
    "mfa_authenticate": anybody(every(302), every(302)),  # only in the middle of signing in
    "mfa_reauthenticate": anybody(every(302), every(302)),  # nobody here has a second factor
    "mfa_activate_totp": anybody(every(302), every(302)),  # to the password first
    "mfa_deactivate_totp": anybody(every(302), every(404)),
    "mfa_view_recovery_codes": anybody(every(302), {**safe(404), "OPTIONS": 200}),
    "mfa_generate_recovery_codes": anybody(every(302), every(302)),
    "mfa_download_recovery_codes": anybody(every(302), every(404)),
    "socialaccount_login_cancelled": anybody(TOLD, TOLD),
    "socialaccount_login_error": anybody({**safe(401), "OPTIONS": 200}, {**safe(401), "OPTIONS": 200}),
    "socialaccount_signup": anybody(every(302), every(302)),  # only in the middle of signing up
    "socialaccount_connections": anybody(every(302), form()),
    "google_login": anybody({**every(302), "GET": 200}, {**every(302), "GET": 200}),
    "google_callback": anybody(every(401), every(401)),
    "google_login_by_token": anybody(*[{**safe(401), "POST": 401, "OPTIONS": 200}] * 2),
    "github_login": anybody({**every(302), "GET": 200}, {**every(302), "GET": 200}),
    "github_callback": anybody(every(401), every(401)),
}

# Where a brand's admins read what its members said; each time that is on record.
READ_BY_ADMINS = {"conversations:manage-chats", "conversations:manage-chat"}

# What a superuser may do with each kind of row: a(dd), c(hange), d(elete). Reading goes without saying, but for CONTENT.
PAGES = {
    "accounts_apikey": "",
    "accounts_brand": "ac",
    "accounts_membership": "acd",
    "accounts_supportgrant": "a",
    "accounts_user": "ac",
    "account_emailaddress": "acd",
    "agents_agent": "c",
    "auth_group": "acd",
    "billing_billingtransaction": "",
    "billing_creditpackoffer": "ac",
    "billing_customer": "",
    "billing_overagereport": "",
    "billing_plan": "ac",
    "billing_stripeevent": "",
    "billing_subscription": "a",
    "billing_subscriptionhistory": "",
    "conversations_brandtemplate": "acd",
    "conversations_conversation": "",
    "conversations_message": "",
    "conversations_turn": "",
    "events_activity": "",
    "events_alarm": "",
    "events_blockedaddress": "",
    "events_deadletter": "",
    "events_emaillog": "",
    "events_event": "",
    "events_notification": "",
    "events_webhookdelivery": "",
    "events_webhookendpoint": "",
    "providers_aiprovider": "ac",
    "providers_fallback": "acd",
    "providers_place": "acd",
    "providers_providerkey": "",
    "providers_systemprompt": "acd",
    "quotas_account": "",
    "quotas_bucket": "",
    "quotas_entry": "",
    "quotas_hold": "",
    "quotas_pack": "",
}
CONTENT = {"conversations_conversation", "conversations_message"}


@dataclass(frozen=True)
class Desk:
    """A page of the staff's site that is no row's: statuses of superusers and of the helper; all others are sent away."""

    superuser: tuple[tuple[str, int], ...]
    helper: tuple[tuple[str, int], ...]

    def answer(self, actor: str, method: str) -> set[int]:
        if actor not in STAFF:
            return {302}
        return {dict(self.helper if actor == "helper" else self.superuser).get(method, 405)}


def desk(superuser: dict[str, int], helper: dict[str, int]) -> Desk:
    return Desk(tuple(superuser.items()), tuple(helper.items()))


DESKS: dict[str, "Rule"] = {
    "admin:index": desk(every(200), every(200)),
    "admin:app_list": desk(every(200), every(404)),
    "admin:logout": desk({"POST": 302, "OPTIONS": 200}, {"POST": 302, "OPTIONS": 200}),
    "admin:password_change": desk(form(), form()),
    "admin:password_change_done": desk(TOLD, TOLD),
    "admin:autocomplete": desk({**every(405), **safe(403), "OPTIONS": 200}, {**safe(403), "OPTIONS": 200}),
    "admin:jsi18n": desk(TOLD, TOLD),
    "admin:billing_plan_copy": desk(every(200), every(403)),
    "admin:accounts_brand_catalogue": desk(every(200), every(403)),
    "admin:billing_billingtransaction_refund": desk(every(200), every(403)),
    "admin:quotas_account_top_up": desk(every(404), every(403)),  # for brands; the row is bob's
    "admin:quotas_account_clear_arrears": desk(every(404), every(403)),  # for who owes something
    "admin:quotas_account_grant_pack": desk(every(200), every(403)),
    "admin:quotas_account_override": desk(every(200), every(403)),
    "admin:quotas_entry_reverse": desk(every(200), every(403)),
    "admin:quotas_pack_take_back": desk(every(200), every(403)),
    "admin:models": desk(every(200), every(403)),
    "admin:quotas_balances": desk(every(200), every(403)),
    "admin:view_on_site": desk(every(404), every(404)),
    "admin/(?P<url>.*)$": desk(every(404), every(404)),
}
DESK_PAGE = re.compile(r"admin:(?P<page>\w+)_(?P<kind>changelist|add|change|delete|history)")
OLD_ADDRESS = re.compile(r"admin/\w+/\w+/<path:object_id>/")  # leads to the page of the row


@dataclass(frozen=True)
class Rows:
    """A page of the staff's site for one kind of row. Django looks at no method but POST."""

    page: str
    kind: str

    def answer(self, actor: str, method: str) -> set[int]:
        if actor not in STAFF:
            return {302}
        if actor == "helper":
            return {403}
        may = PAGES[self.page]
        if self.kind in ("add", "delete") and self.kind[0] not in may:
            return {403}
        if self.page in CONTENT and actor != "staff_with_grant":
            return {403}
        if self.kind == "change" and method == "POST" and "c" not in may:
            return {403}
        return {200, 302} if method == "POST" else {200}


@dataclass(frozen=True)
class Door:
    """The way in to the staff's site: on to the log-in of everybody, or into the site, or told that it is not for him."""

    def answer(self, actor: str, method: str) -> set[int]:
        return {302} if actor in NOBODY | STAFF else {403}


Rule = Member | Asker | Admin | Key | Api | Apis | Anybody | Desk | Rows | Door


def of(name: str, template: str) -> Rule | None:
    """The rule for a route, or None: then nobody thought about who may call it."""
    if name == "admin:login":
        return Door()
    if OLD_ADDRESS.fullmatch(template):
        return desk(every(302), every(302))
    if rule := {**ROUTES, **DESKS}.get(name):
        return rule
    found = DESK_PAGE.fullmatch(name)
    return Rows(found["page"], found["kind"]) if found and found["page"] in PAGES else None


# What a view of ours says of itself, and the rule that must go with it.
DECLARED = {
    "member": Member,
    "asker": Asker,
    "reader": Anybody,
    "admin": Admin,
    "key": Key,
    "api": Api | Apis,
    "public": Anybody,
    "account": Anybody,
}
