from django.apps import AppConfig
from django.db.backends.signals import connection_created


class LibConfig(AppConfig):
    name = "lib"

    def ready(self) -> None:
        from lib import clock

        connection_created.connect(clock.ask, dispatch_uid="lib.clock")
