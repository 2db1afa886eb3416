import pytest
from django.db import connections


@pytest.fixture
def crowd(live_world):
    """The committed world, with as few connections for many threads as a web process has."""
    service = connections.settings["service"]
    connections["service"].close()
    service["OPTIONS"]["pool"] = {"min_size": 4, "max_size": 16, "timeout": 60}
    yield live_world
    connections["service"].close()
    connections["service"].close_pool()
    del service["OPTIONS"]["pool"]
