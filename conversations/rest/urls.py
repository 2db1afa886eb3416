from django.urls import path

from conversations.rest import asking, conversations, recorded

urlpatterns = [
    path("chat", asking.Chat.as_view(), name="rest-chat"),
    path("chat/<uuid:turn_id>", asking.Answering.as_view(), name="rest-answer"),
    path("chat/<uuid:turn_id>/stop", asking.Stop.as_view(), name="rest-stop"),
    path("chat-history", conversations.ChatHistory.as_view(), name="chat-history"),
    path("chat-details/<uuid:conversation_id>", conversations.ChatDetails.as_view(), name="chat-details"),
    path("ai-providers", asking.Providers.as_view(), name="ai-providers"),
    path("system-prompts", asking.Prompts.as_view(), name="system-prompts"),
    path("conversations", conversations.Conversations.as_view(), name="rest-conversations"),
    path("conversations/search", conversations.Search.as_view(), name="search-conversations"),
    path("conversations/stats", conversations.Stats.as_view(), name="conversation-stats"),
    path("conversations/<uuid:conversation_id>", conversations.OneConversation.as_view(), name="rest-conversation"),
    path("conversations/<uuid:conversation_id>/archive", conversations.Archive.as_view(), name="archive-conversation"),
    path(
        "conversations/<uuid:conversation_id>/unarchive",
        conversations.Unarchive.as_view(),
        name="unarchive-conversation",
    ),
    path("conversations/<uuid:conversation_id>/messages", conversations.Messages.as_view(), name="rest-messages"),
    path("brands/<slug:slug>/stats", conversations.BrandStats.as_view(), name="brand-stats"),
    path("track", recorded.Track.as_view(), name="track"),
]
