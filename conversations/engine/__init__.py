"""The life of a turn: what is asked of which model, at whose cost, and how the answer is written, watched and ended."""
