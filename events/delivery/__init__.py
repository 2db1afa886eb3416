"""What becomes of a mail after it left: what its provider reports, who opened it, who wants no more, and its page."""
