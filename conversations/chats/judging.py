"""What a reader thinks of an answer: good or bad (S3 `feedback_rating`), and what it should have said (S3 `corrections`)."""

from uuid import UUID

from django.utils.translation import gettext as _

from conversations.models import Correction, Feedback, Message
from events import stream
from lib.db import Principal, scope
from lib.errors import Conflict, Invalid, NotFound
from lib.figures import grouped

MOST_CORRECTED = 20_000
MOST_REASON = 2_000


def rate(principal: Principal, message_id: UUID, rating: int, *, reason: str = "") -> None:
    """Say of an answer that it is good (1) or bad (-1); 0 takes it back. The last word counts, a repeat changes nothing.

    Raises  Invalid, NotFound
    Source  S3 `messages.feedback_rating`
    """
    if rating not in (-1, 0, 1):
        raise Invalid(_("An answer is good, bad or neither: 1, -1 or 0."))
    with scope(principal):
        answer = _answer(principal, message_id)
        said = Feedback.objects.filter(message_id=message_id, owner_id=principal.owner_id)
        if rating:
            Feedback.objects.update_or_create(
                brand_id=principal.brand_id,
                owner_id=principal.owner_id,
                message_id=message_id,
                defaults={
                    "conversation_id": answer.conversation_id,
                    "rating": rating,
                    "reason": reason[:MOST_REASON],
                },
            )
        else:
            said.delete()
        if answer.feedback_rating != (rating or None):
            Message.objects.filter(pk=message_id).update(feedback_rating=rating or None)
            stream.publish(
                principal.brand_id,
                "message.rated",
                subject=("message", message_id),
                owner_id=principal.owner_id,
                data={"rating": rating, "model": answer.model, "conversation_id": str(answer.conversation_id)},
            )


def correct(principal: Principal, message_id: UUID, text: str, *, reason: str = "") -> None:
    """Report what an answer should have said; the same person's next word replaces it, until the brand has decided.

    text    "" takes the report back
    Raises  Invalid, NotFound, and Conflict when the brand has decided
    Source  S3 `corrections`
    """
    text = text.strip()
    if len(text) > MOST_CORRECTED:
        raise Invalid(
            _("This is longer than %(most)s characters. Shorten it; your text is kept.")
            % {"most": grouped(MOST_CORRECTED)}
        )
    with scope(principal):
        answer = _answer(principal, message_id)
        own = Correction.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id, message_id=message_id)
        found = own.select_for_update().first()
        if found and found.status != Correction.Status.PENDING:
            raise Conflict(_("Your correction was already looked at, so it cannot be changed any more."))
        if not text:
            if own.delete()[0]:
                Message.objects.filter(pk=message_id).update(was_corrected=False, correction_id=None)
            return
        made, is_new = own.update_or_create(
            defaults={"corrected_response": text, "reason": reason[:MOST_REASON]},
            create_defaults={
                "brand_id": principal.brand_id,
                "owner_id": principal.owner_id,
                "message_id": message_id,
                "conversation_id": answer.conversation_id,
                "original_response": answer.content,
                "corrected_response": text,
                "reason": reason[:MOST_REASON],
            },
        )
        if is_new:
            Message.objects.filter(pk=message_id).update(was_corrected=True, correction_id=made.pk)
            stream.publish(
                principal.brand_id,
                "correction.created",
                subject=("correction", made.pk),
                owner_id=principal.owner_id,
                data={"message_id": str(message_id), "conversation_id": str(answer.conversation_id)},
            )


def _answer(principal: Principal, message_id: UUID) -> Message:
    answers = Message.objects.filter(
        brand_id=principal.brand_id,
        owner_id=principal.owner_id,
        role=Message.Role.ASSISTANT,
        deleted_at=None,
        conversation__deleted_at=None,
    )
    found: Message | None = answers.exclude(status=Message.Status.PENDING).filter(pk=message_id).first()
    if found is None:
        raise NotFound(_("This answer is not here (any more)."))
    return found
