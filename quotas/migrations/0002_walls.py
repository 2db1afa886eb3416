"""Members see their own account and can change nothing; entries are only ever added, by the service too."""

from django.db import migrations

from lib.operations import CompositeFK, EnableRLS

OF_ACCOUNT = ("Account", ["brand_id", "owner_id", "id"])
OF_BUCKET = ("Bucket", ["brand_id", "owner_id", "id"])
# Room on the page for the next version of a hot row, so that an update touches no index (HOT).
FILL = "alter table quotas_bucket set (fillfactor = 50)"


class Migration(migrations.Migration):
    dependencies = [("quotas", "0001_initial"), ("accounts", "0002_walls")]

    operations = [
        EnableRLS("Account", user="select", visitor="select", brand="select"),
        EnableRLS("Entitlement", user="select", visitor="select", brand="select", service="select, insert, update"),
        EnableRLS("Bucket", user="select", visitor="select", brand="select", service="select, insert, update"),
        EnableRLS("Pack", owner=None, brand="select", service="select, insert, update"),
        EnableRLS("Hold", user="select", visitor="select", brand="select"),
        EnableRLS("Entry", user="select", brand="select", service="select, insert"),
        CompositeFK("Entitlement", ["brand_id", "owner_id", "account_id"], *OF_ACCOUNT, on_delete="restrict"),
        CompositeFK("Bucket", ["brand_id", "owner_id", "account_id"], *OF_ACCOUNT, on_delete="restrict"),
        CompositeFK("Pack", ["brand_id", "bucket_id"], "Bucket", ["brand_id", "id"], on_delete="restrict"),
        CompositeFK("Hold", ["brand_id", "owner_id", "bucket_id"], *OF_BUCKET, on_delete="restrict"),
        CompositeFK("Entry", ["brand_id", "owner_id", "bucket_id"], *OF_BUCKET, on_delete="restrict"),
        migrations.RunSQL(FILL, "alter table quotas_bucket reset (fillfactor)"),
    ]
