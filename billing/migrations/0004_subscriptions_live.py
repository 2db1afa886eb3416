import django.core.validators
import django.db.models.deletion
import lib.ids
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_walls"),
        ("billing", "0003_stand_in"),
    ]

    operations = [
        migrations.AddField(
            model_name="plan",
            name="annual_price_microusd",
            field=models.PositiveBigIntegerField(
                blank=True,
                help_text="For a year at once: 290000000 is $290. Empty: by the month only.",
                null=True,
                verbose_name="annual price (microusd)",
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="concurrent_turns",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Empty = the installation's.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(1),
                    django.core.validators.MaxValueValidator(100000),
                ],
                verbose_name="answers at once",
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="is_offered",
            field=models.BooleanField(
                db_default=False, default=True, help_text="Off: only staff give it.", verbose_name="on the pricing page"
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="overage_by_default",
            field=models.BooleanField(
                db_default=False, default=False, help_text="Pay as you go: overage is on without being switched on."
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="rate_limit_per_minute",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Empty = the installation's.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="unit",
            field=models.CharField(
                choices=[("queries", "queries"), ("messages", "messages"), ("conversations", "conversations")],
                db_default="queries",
                default="queries",
                help_text="What its members count in: packs and overage stand for this meter. The plan needs a limit of it.",
                max_length=20,
            ),
        ),
        migrations.AddField(
            model_name="subscription",
            name="anchor_at",
            field=models.DateTimeField(
                blank=True, help_text="From which its months are counted; empty = calendar months.", null=True
            ),
        ),
        migrations.AddField(
            model_name="subscription",
            name="cancel_at_period_end",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="subscription",
            name="cycle",
            field=models.CharField(
                choices=[("month", "Month"), ("year", "Year")], db_default="month", default="month", max_length=10
            ),
        ),
        migrations.AddField(
            model_name="subscription",
            name="grace_ends_at",
            field=models.DateTimeField(blank=True, help_text="Until when an unpaid plan is kept.", null=True),
        ),
        migrations.AddField(
            model_name="subscription",
            name="is_billable",
            field=models.BooleanField(db_default=False, default=False, help_text="A payment method is stored."),
        ),
        migrations.AddField(
            model_name="subscription",
            name="next_plan",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="billing.plan",
                db_index=False,
            ),
        ),
        migrations.AddField(
            model_name="subscription",
            name="period_ends_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="subscription",
            name="period_starts_at",
            field=models.DateTimeField(blank=True, help_text="Of what is paid now; empty = not paid for.", null=True),
        ),
        migrations.AddField(
            model_name="subscription",
            name="provider",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Who collects the money; empty = nobody.",
                max_length=20,
            ),
        ),
        migrations.AddField(
            model_name="subscription",
            name="provider_subscription_id",
            field=models.CharField(blank=True, db_default="", default="", max_length=255),
        ),
        migrations.AddField(
            model_name="subscription",
            name="trial_ends_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="plan",
            name="is_active",
            field=models.BooleanField(default=True, help_text="Off: nobody can be put on it. Who is on it stays."),
        ),
        migrations.AlterField(
            model_name="plan",
            name="overage_price_microusd",
            field=models.PositiveBigIntegerField(default=25000, help_text="Per unit beyond the plan: 25000 is $0.025."),
        ),
        migrations.AddConstraint(
            model_name="subscription",
            constraint=models.UniqueConstraint(
                condition=models.Q(("provider_subscription_id", ""), _negated=True),
                fields=("brand", "provider", "provider_subscription_id"),
                name="one_subscription_per_provider_id",
            ),
        ),
        migrations.AddConstraint(
            model_name="subscription",
            constraint=models.UniqueConstraint(fields=("brand", "owner_id", "id"), name="subscription_of_owner"),
        ),
        migrations.AddConstraint(
            model_name="subscription",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("period_ends_at", None), ("period_starts_at", None)),
                    ("period_ends_at__gt", models.F("period_starts_at")),
                    _connector="OR",
                ),
                name="subscription_period_runs_forward",
            ),
        ),
        migrations.AddConstraint(
            model_name="subscription",
            constraint=models.CheckConstraint(
                condition=models.Q(("grace_ends_at", None), ("status", "past_due"), _connector="OR"),
                name="subscription_grace_only_when_past_due",
            ),
        ),
        migrations.CreateModel(
            name="SubscriptionHistory",
            fields=[
                ("id", models.UUIDField(default=lib.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "brand",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.brand"
                    ),
                ),
                (
                    "plan",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="billing.plan",
                    ),
                ),
                (
                    "subscription",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="history",
                        to="billing.subscription",
                    ),
                ),
                ("owner_id", models.UUIDField()),
                ("effective_at", models.DateTimeField()),
                ("code", models.CharField(max_length=20)),
                ("plan_in_force", models.CharField(blank=True, max_length=40)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("active", "Active"),
                            ("trialing", "Trialing"),
                            ("past_due", "Past Due"),
                            ("cancelled", "Cancelled"),
                        ],
                        max_length=10,
                    ),
                ),
                ("billing_cycle", models.CharField(choices=[("month", "Month"), ("year", "Year")], max_length=10)),
                ("monthly_price_microusd", models.PositiveBigIntegerField()),
                ("annual_price_microusd", models.PositiveBigIntegerField(null=True)),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                ("trial_ends_at", models.DateTimeField(null=True)),
                ("cancelled_at", models.DateTimeField(null=True)),
                ("cancellation_reason", models.CharField(blank=True, max_length=40)),
                ("cancellation_comment", models.CharField(blank=True, max_length=1000)),
                ("actor_id", models.UUIDField(null=True)),
            ],
            options={
                "verbose_name_plural": "subscription history",
            },
        ),
        migrations.AddIndex(
            model_name="subscriptionhistory",
            index=models.Index(fields=["brand", "owner_id", "-effective_at"], name="history_of_an_owner"),
        ),
    ]
