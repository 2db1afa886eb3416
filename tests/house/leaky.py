"""What test_canaries.py has run as a test suite of its own, to see it fail."""

import secrets

from django.contrib.sessions.backends.cache import SessionStore


def test_that_prints_what_it_made():
    print("made", secrets.token_urlsafe(32), SessionStore()._get_new_session_key())


def test_that_keeps_it():
    secrets.token_urlsafe(32)
