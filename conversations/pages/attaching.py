"""Attaching a file: its bytes come while the question is still being written, and its chip says how the reading goes.

A page's script sends one file as the whole body, which costs the server no parsing; a form sends any number as `files`.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.access import BrandRequest, as_asker, brand_member
from conversations import tasks
from conversations.engine import attachments
from conversations.engine.attachments import MOST_BYTES, MOST_FILES
from conversations.engine.turns import Question
from conversations.models import Attachment
from lib.db import Principal
from lib.errors import Conflict, Invalid

WAIT_S = 50.0  # for files that go with a question which is sent already; proxies are patient for a minute
LOOK_EVERY_S = 0.4


@brand_member
@require_POST
def attach(request: BrandRequest) -> HttpResponse:
    """Take in what is sent, and give a chip for each."""
    conversation_id = _conversation(request.headers.get("X-Conversation", ""))
    taken = take_all(request, request.principal, conversation_id, request.headers.get("Idempotency-Key", ""))
    if not taken:
        raise Invalid(_("No file was sent. Choose one first."))
    return render(
        request, "conversations/_chips.html", {"chips": [attachments.chip(file) for file in taken]}, status=201
    )


@brand_member
@require_safe
def attachment(request: BrandRequest, attachment_id: UUID) -> HttpResponse:
    """The chip of one file, as it stands."""
    found = attachments.one(request.principal, attachment_id)
    return render(request, "conversations/_chips.html", {"chips": [attachments.chip(found)]})


@brand_member
@require_POST
def remove(request: BrandRequest, attachment_id: UUID) -> HttpResponse:
    attachments.remove(request.principal, attachment_id)
    if "application/json" in request.headers.get("Accept", ""):
        return HttpResponse(status=204)
    return redirect(request.headers.get("Referer") or "conversations:new")


def take_all(
    request: HttpRequest, principal: Principal, conversation_id: UUID | None, key: str = ""
) -> list[Attachment]:
    """Take in every file of a request and queue its reading, in the principal's scope. All of them, or none."""
    taken = []
    for number, (name, content) in enumerate(_given(request)):
        file_key = key and f"{key[:240]}:{number}"
        taken.append(attachments.take(principal, name, content, conversation_id=conversation_id, key=file_key))
        tasks.read_attachment.delay_on_commit(str(taken[-1].pk))
    return taken


def _given(request: HttpRequest) -> Iterator[tuple[str, bytes]]:
    if request.content_type != "multipart/form-data":
        yield unquote(request.headers.get("X-File-Name", ""), errors="replace"), request.read(MOST_BYTES + 1)
        return
    files = request.FILES.getlist("files")
    if len(files) > MOST_FILES:
        raise Conflict(_("%(most)s files are the most for one question.") % {"most": MOST_FILES})
    for file in files:
        if (file.size or 0) > MOST_BYTES:
            raise attachments.too_large(file.name or "")
        yield file.name or "", file.read()


def _conversation(given: str) -> UUID | None:
    try:
        return UUID(given) if given else None
    except ValueError:
        raise Invalid(_("X-Conversation is the id of a chat.")) from None


async def with_files(request: HttpRequest, question: Question, key: str) -> Question:
    """A page's question with all its files, those that came with its form too, when they are read.

    Nothing is held meanwhile, and neither connection nor thread is kept.
    Raises  Unreadable for one that cannot be, Conflict when it takes longer than anybody waits
    """
    if request.FILES:
        taken = await as_asker(request, lambda principal: take_all(request, principal, question.conversation_id, key))
        question = replace(question, attachments=(*question.attachments, *(file.pk for file in taken)))
    loop = asyncio.get_running_loop()
    until = loop.time() + WAIT_S
    while question.attachments and (file := await as_asker(request, attachments.unread, question.attachments)):
        if loop.time() > until:
            words = _("“%(name)s” is still being read. Send again in a moment; your text is kept.")
            raise Conflict(words % {"name": file.name}, retry_after=5)
        await asyncio.sleep(LOOK_EVERY_S)
    return question
