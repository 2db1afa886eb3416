"""Where somebody lands who has signed in: what they did as a visitor becomes theirs, and what they wrote last is sent."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from accounts import visitors
from accounts.access import BrandRequest, NotAMember, member_asks, member_of
from conversations.chats import pending, reading
from conversations.engine import beginning, runner
from conversations.engine.turns import Begun
from conversations.errors import Restarting
from conversations.models import PendingMessage
from lib import clock
from lib.db import Principal, db, scope
from lib.errors import Conflict, DomainError, NotFound, Unavailable
from lib.faults import fault

JUST_NOW = timedelta(minutes=5)  # for so long, who comes second is led to the chat that the first one was led to
TRIES, TRY_EVERY_S = 20, 0.25  # while another tab is sending the same message


@member_asks
@require_GET
async def welcome(request: BrandRequest) -> HttpResponse:
    """Adopt what the visitor's cookie names, send what waits, and go on to that chat. Safe to repeat, in any tab."""
    chat = await asyncio.shield(_arrived(request))  # also when the browser is gone
    there = request.GET.get("next", "")
    if chat:
        there = reverse("conversations:detail", args=[chat])
    elif not url_has_allowed_host_and_scheme(there, allowed_hosts=None):
        there = reverse("conversations:new")
    response = HttpResponseRedirect(there)
    if visitors.has_cookie(request):
        visitors.forget(response)
    return response


async def _arrived(request: BrandRequest) -> UUID | None:
    principal, waiting, newest = await db(_adopted, request)
    fault("after_adoption")
    if waiting is None:
        return newest
    if waiting.sent_at:
        return waiting.conversation_id if waiting.sent_at > clock.now() - JUST_NOW else newest
    try:
        return await _sent(request, principal, waiting)
    except (Conflict, Restarting, Unavailable) as passing:  # it may still be sent, here or from the composer
        messages.warning(request, passing.detail)
        return waiting.conversation_id
    except DomainError as refused:
        messages.warning(request, refused.detail)
        return await db(pending.give_back, principal, waiting, refused)


def _adopted(request: BrandRequest) -> tuple[Principal, PendingMessage | None, UUID | None]:
    """The member, what is to be sent, and the chat that came along."""
    principal, visitor_id, chat = member_of(request), visitors.of_request(request), None
    try:
        with scope(principal):
            pass
    except NotFound as error:
        raise NotAMember(_("You are signed in, but not a member of this brand.")) from error
    has_adopted = visitor_id is not None and pending.adopt(principal.brand_id, visitor_id, principal.owner_id)
    with scope(principal):
        if has_adopted:
            chat = reading.own(principal).order_by("-last_message_at").values_list("id", flat=True).first()
        return principal, pending.newest(principal), chat


async def _sent(request: BrandRequest, principal: Principal, waiting: PendingMessage) -> UUID | None:
    runner.accept()
    for _attempt in range(TRIES):
        with suppress(Conflict):
            begun = await db(_begun, request, principal, waiting)
            break
        await asyncio.sleep(TRY_EVERY_S)
    else:
        raise Conflict(_("Your message is being sent. Reload this page in a moment."))
    fault("after_pending_begun")
    if begun.call is not None:
        runner.start(begun)
    await db(pending.sent, principal, pending.key_of(waiting), begun.conversation_id)
    return begun.conversation_id


def _begun(request: BrandRequest, principal: Principal, waiting: PendingMessage) -> Begun:
    return beginning.begin(principal, request.brand, pending.question_of(waiting), key=pending.key_of(waiting))
