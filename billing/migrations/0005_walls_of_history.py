from django.db import migrations

from lib.operations import CompositeFK, EnableRLS

OF_PLAN = ("Plan", ["brand_id", "id"])


class Migration(migrations.Migration):
    dependencies = [("billing", "0004_subscriptions_live")]

    operations = [
        EnableRLS("SubscriptionHistory", user="select", brand="select", service="select, insert"),
        CompositeFK(
            "SubscriptionHistory",
            ["brand_id", "owner_id", "subscription_id"],
            "Subscription",
            ["brand_id", "owner_id", "id"],
            on_delete="restrict",
        ),
        CompositeFK("SubscriptionHistory", ["brand_id", "plan_id"], *OF_PLAN, on_delete="restrict"),
        CompositeFK("Subscription", ["brand_id", "next_plan_id"], *OF_PLAN, on_delete="restrict"),
    ]
