from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        from billing import reports
        from quotas import proof

        proof.prove_also("what Stripe was told of bucket", ("reported_microusd",), reports.UNREPORTED)
