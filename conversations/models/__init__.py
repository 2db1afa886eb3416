"""What people say and what is answered. Content lives here and may be deleted; what it cost lives in quotas and stays."""

from conversations.models.conversation import Conversation, PendingMessage
from conversations.models.judgement import Correction, Feedback
from conversations.models.leaving import UNDER_WAY, Export, Share
from conversations.models.message import Attachment, Message
from conversations.models.starter import BrandTemplate, Starter, Template
from conversations.models.turn import OPEN_STATES, Look, Turn

__all__ = [
    "OPEN_STATES",
    "UNDER_WAY",
    "Attachment",
    "BrandTemplate",
    "Conversation",
    "Correction",
    "Export",
    "Feedback",
    "Look",
    "Message",
    "PendingMessage",
    "Share",
    "Starter",
    "Template",
    "Turn",
]
