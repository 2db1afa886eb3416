"""What plans said before of calls a minute, handed on to the memberships; from now on entitle() does that."""

from typing import Any

from django.db import migrations

from lib.operations import as_service


def hand_on(apps: Any, editor: Any) -> None:
    membership = apps.get_model("accounts", "Membership")
    for account in apps.get_model("quotas", "Account").objects.filter(kind="user").iterator():
        if most := account.features.get("rate_limit_per_minute"):
            member = membership.objects.filter(brand_id=account.brand_id, user_id=account.owner_id)
            member.update(rate_limit_per_minute=most)


class Migration(migrations.Migration):
    dependencies = [("quotas", "0009_account_of_all_visitors"), ("accounts", "0007_keys_of_a_brand")]

    operations = [migrations.RunPython(as_service(hand_on), migrations.RunPython.noop)]
