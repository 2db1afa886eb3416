from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps
from django.db.models.signals import post_migrate


def grant_exempt_tables(using: str, plan: object = None, **kwargs: object) -> None:
    """After every migrate (a flush sends no plan): the exempt tables get their frozen lists of rights."""
    from django.db import connections

    from lib.operations import grant_exempt

    if using == "owner" and plan is not None:
        with connections["owner"].cursor() as cursor:
            grant_exempt(cursor)


class ChatsiteConfig(AppConfig):
    name = "chatsite"
    default = True

    def ready(self) -> None:
        from django.apps import apps

        from chatsite import (
            celery,  # noqa: F401 - shared tasks need the app, whoever queues them
            security_log,  # noqa: F401 - it listens to what allauth and Django say of sign-ins
        )
        from chatsite.about_me import about_me
        from conversations.chats.export import background

        if about_me not in background.besides:
            background.besides.append(about_me)

        # The last app of the list sends the signal last, when every table is there.
        post_migrate.connect(grant_exempt_tables, sender=list(apps.get_app_configs())[-1])


class Admin(admin_apps.AdminConfig):
    default = False
    default_site = "chatsite.staff.StaffSite"
