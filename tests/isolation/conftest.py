from contextlib import contextmanager

import pytest
from django.db import connections, transaction


@pytest.fixture
def as_owner(transactional_db):
    """Statements of the tables' owner, which end with the test: `with as_owner() as cursor:` rolls back."""

    @contextmanager
    def statements():
        with transaction.atomic(using="owner"):
            with connections["owner"].cursor() as cursor:
                yield cursor
            transaction.set_rollback(True, using="owner")

    return statements
