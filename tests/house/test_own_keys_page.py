"""/settings/keys/ where keys cannot be sealed, or none of the models is asked at a vendor's own host."""

import pytest
from django.test import Client

from lib.db import SERVICE, scope
from lib.keyring import KeyRing
from providers.models import ProviderKey
from quotas import ledger
from tests import factories

KEY = "sk-own-good-4c1f9e7a2b"


@pytest.fixture
def bob(world):
    """His plan allows keys of one's own, and there is a model of OpenAI's."""
    factories.make_provider("gpt", protocol="openai")
    ledger.entitle(world.act, kind="user", owner_id=world.bob.pk, grants=[], features={"byok_allowed": True})
    client = Client(SERVER_NAME="act.localhost")
    client.force_login(world.bob, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_without_a_ring_no_key_is_taken_and_nobody_is_asked_about_it(bob, settings):
    settings.ENCRYPTION_KEYS = KeyRing.parse("")

    shown = bob.get("/settings/keys/").content.decode()
    refused = bob.post("/settings/keys/change/", {"do": "store", "vendor": "openai", "key": KEY})

    assert "Keys cannot be stored here yet" in shown
    assert "Check and store" not in shown
    assert refused.status_code == 503
    assert "whoever runs this site has not set ENCRYPTION_KEYS" in refused.content.decode()
    assert KEY not in refused.content.decode()
    with scope(SERVICE):
        assert not ProviderKey.objects.exists()


def test_a_brand_whose_models_are_all_asked_elsewhere_says_so(bob, settings):
    settings.OPENAI_BASE_URL = "http://gateway.internal:4000/v1"

    shown = bob.get("/settings/keys/").content.decode()

    assert "a key of your own could pay for none" in shown
