from typing import Any

from django.db import connections, transaction

from events import settling
from lib.commands import OperatorCommand


class Command(OperatorCommand):
    help = (
        "Put the event stream in order after its rows were loaded by hand from another server's dump, while nothing runs. "
        "`manage.py restore` does it by itself."
    )
    scoped = False

    def work(self, **options: Any) -> dict[str, Any]:
        with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
            return {"moved_back_by": settling.settle_in(cursor)}
