from django.db import migrations

from lib.operations import CompositeFK, EnableRLS

OF_PLAN = ("Plan", ["brand_id", "id"])


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial"), ("accounts", "0002_walls")]

    operations = [
        EnableRLS("Plan", owner=None, user="select", visitor="select", brand="select"),
        EnableRLS("PlanLimit", owner=None, user="select", visitor="select", brand="select"),
        EnableRLS("Subscription", user="select", brand="select"),
        CompositeFK("PlanLimit", ["brand_id", "plan_id"], *OF_PLAN),
        CompositeFK("Subscription", ["brand_id", "plan_id"], *OF_PLAN, on_delete="restrict"),
    ]
