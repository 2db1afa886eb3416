from django.urls import path

from conversations.doors.chat_completions import chat_completions
from conversations.doors.messages import count_tokens, messages
from conversations.doors.models import models

urlpatterns = [
    path("chat/completions", chat_completions, name="chat-completions"),
    path("messages", messages, name="messages"),
    path("messages/count_tokens", count_tokens, name="count-tokens"),
    path("models", models, name="models"),
    path("models/<path:identifier>", models, name="model"),
]
