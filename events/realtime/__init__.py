"""Realtime: whoever may read a row hears of its changes as they happen, over one stream that stays open."""
