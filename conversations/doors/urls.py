from django.urls import path

from conversations.doors.chat_completions import chat_completions
from conversations.doors.embeddings import embeddings
from conversations.doors.messages import count_tokens, messages
from conversations.doors.models import models
from conversations.doors.responses import input_items, response, responses

urlpatterns = [
    path("chat/completions", chat_completions, name="chat-completions"),
    path("messages", messages, name="messages"),
    path("messages/count_tokens", count_tokens, name="count-tokens"),
    path("responses", responses, name="responses"),
    path("responses/<str:response_id>", response, name="response"),
    path("responses/<str:response_id>/input_items", input_items, name="response-input-items"),
    path("embeddings", embeddings, name="embeddings"),
    path("models", models, name="models"),
    path("models/<path:identifier>", models, name="model"),
]
