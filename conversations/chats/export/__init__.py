"""What people take home of their chats: JSON that comes back (docs/export.md), Markdown and PDF."""
