from django.db import migrations, models

from lib.operations import AddIndexAtWork


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("events", "0007_order_of_the_stream")]

    operations = [AddIndexAtWork("event", models.Index(fields=["xid", "seq"], name="events_in_order"))]
