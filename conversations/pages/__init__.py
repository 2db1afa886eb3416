"""The pages of the chat, and what their forms do."""
