"""What the description of the API shows: one chat about towers, as it would be told."""

CHAT_ID = "019aa1c2-7d3e-7c60-b5f4-0a1b2c3d4e5f"
MESSAGE_ID = "019aa1c2-7d3f-7a11-9c52-6e7f8091a2b3"
TURN_ID = "019aa1c2-7d40-7d22-8d63-7f8091a2b3c4"
OFFER_ID = "019a9f00-0000-7000-8000-00000000d3e0"
PROMPT_ID = "019a9f00-0000-7000-8000-0000000009a7"
AT, LATER = "2026-11-21T20:15:00.123456+00:00", "2026-11-21T20:15:04.654321+00:00"

OFFER = {"id": OFFER_ID, "name": "Demo", "description": "Answers without a vendor, so that everything can be tried."}
PROMPT = {"id": PROMPT_ID, "name": "Helpful assistant"}
CHAT = {"id": CHAT_ID, "title": "High towers", "updated_at": LATER}
MESSAGE = {
    "id": MESSAGE_ID, "chat_id": CHAT_ID, "role": "assistant", "content": "Eleven metres.", "status": "done",
    "function_call": None, "ai_provider_id": OFFER_ID, "system_prompt_id": PROMPT_ID, "model": "demo",
    "token_usage": {"prompt_tokens": 12, "completion_tokens": 4}, "tokens_used": 16, "created_at": LATER,
}  # fmt: skip
CONVERSATION = {
    "id": CHAT_ID, "title": "High towers", "model": "demo", "status": "active", "archived": False, "pinned": False,
    "settings": {"temperature": 0.7}, "context": None, "message_count": 2, "total_tokens_used": 16,
    "total_cost_microusd": 0, "created_at": AT, "updated_at": LATER, "last_message_at": LATER,
}  # fmt: skip
HIT = {
    "id": CHAT_ID, "title": "High towers", "message_id": MESSAGE_ID, "is_answer": True,
    "excerpt": "<mark>Eleven</mark> metres.", "more": 0, "at": LATER, "is_archived": False,
}  # fmt: skip
OWN_STATS = {
    "total_conversations": 12, "active_conversations": 10, "archived_conversations": 2, "total_messages": 64,
}  # fmt: skip
BRAND_STATS = {**OWN_STATS, "total_tokens_used": 48_210, "total_cost_microusd": 96_400, "counted_at": AT}
QUESTION = {"message": "How tall is it?"}
ANSWER = {
    "turnId": TURN_ID,
    "chatId": CHAT_ID,
    "message": {
        "id": MESSAGE_ID, "chat_id": CHAT_ID, "role": "assistant", "content": "Eleven metres.", "status": "done",
        "ai_provider_id": OFFER_ID, "token_usage": {"prompt_tokens": 12, "completion_tokens": 4},
    },
    "error": None,
}  # fmt: skip
TO_RECORD = {
    "title": "Content strategy", "model": "gpt-4", "system_prompt": "You are a content strategist.",
    "settings": {"temperature": 0.7, "max_tokens": 2000},
}  # fmt: skip
RECORDED = {"id": CHAT_ID, **TO_RECORD, "created_at": AT}
TO_ADD = {
    "role": "assistant", "content": "Begin with two posts a week.", "tokens_used": 150, "model": "gpt-4",
    "metadata": {"ticket": "A-17"},
}  # fmt: skip
ADDED = {
    "id": MESSAGE_ID, "conversation_id": CHAT_ID, "role": "assistant", "tokens_used": 150, "is_charged": True,
    "model": "gpt-4", "metadata": {"ticket": "A-17"}, "created_at": AT,
}  # fmt: skip
TO_TRACK = {"model": "gpt-4", "prompt_tokens": 120, "completion_tokens": 80}
TRACKED = {"id": MESSAGE_ID, "pocket": "plan", **TO_TRACK, "created_at": AT}
