from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations, models
from django.db.models import Q

from lib.operations import AddIndexAtWork


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("quotas", "0007_pockets")]

    operations = [
        ValidateConstraint("bucket", "bucket_never_overspent"),
        ValidateConstraint("account", "account_owes_and_caps_no_less_than_nothing"),
        AddIndexAtWork(
            model_name="bucket",
            index=models.Index(fields=["account", "meter"], condition=Q(pocket="pack"), name="packs_of_an_account"),
        ),
    ]
