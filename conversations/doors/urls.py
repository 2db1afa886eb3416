from django.urls import path

from conversations.doors.chat_completions import chat_completions
from conversations.doors.models import models

urlpatterns = [
    path("chat/completions", chat_completions, name="chat-completions"),
    path("models", models, name="models"),
    path("models/<path:identifier>", models, name="model"),
]
