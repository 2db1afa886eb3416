"""What was paid stands for good, and nobody reads another's."""

import pytest
from django.db import DatabaseError, connections, transaction
from django.utils import timezone

from billing.models import BillingTransaction, Customer, OverageReport
from chatsite.isolation import trial
from lib.db import SERVICE, current_alias, scope
from lib.ids import uuid7
from tests.factories import member

PAID = {
    "type": "one_time",
    "status": "paid",
    "description": "200 questions",
    "amount_microusd": 5_000_000,
    "tax_amount_microusd": 0,
    "total_amount_microusd": 5_000_000,
    "currency": "USD",
    "payment_provider": "stand_in",
    "provider_transaction_id": "cs_1",
}


def make_transaction(brand, user, **fields):
    with scope(SERVICE):
        return BillingTransaction.objects.create(
            brand=brand, owner_id=user.pk, happened_at=timezone.now(), **{**PAID, **fields}
        )


def refused(statement):
    alias = current_alias()
    with pytest.raises(DatabaseError) as error, transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute(statement)
    return error.value.__cause__.sqlstate


def test_how_a_transaction_stands_may_change_and_what_was_paid_may_not(live_world):
    row = make_transaction(live_world.act, live_world.bob)

    with scope(SERVICE):
        for change in (
            "set amount_microusd = 1, total_amount_microusd = 1",
            f"set owner_id = '{live_world.alice.pk}'",
            "set type = 'credit'",
            "set happened_at = now()",
            "set invoice_number = '2'",
        ):
            assert refused(f"update billing_billingtransaction {change}") == trial.DENIED
        assert refused("delete from billing_billingtransaction") == trial.DENIED
        BillingTransaction.objects.filter(pk=row.pk).update(status="disputed", payment_id="pi_1")
        row.refresh_from_db()
        assert (row.status, row.payment_id, row.amount_microusd) == ("disputed", "pi_1", 5_000_000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount_microusd": 4_000_000},
        {"amount_microusd": -5_000_000, "total_amount_microusd": -5_000_000},
        {"type": "refund"},
    ],
    ids=["does not add up", "a purchase below 0", "a refund above 0"],
)
def test_sums_that_cannot_be_are_refused_by_the_database(world, wrong):
    with pytest.raises(DatabaseError), transaction.atomic():
        make_transaction(world.act, world.bob, **wrong)


def test_a_member_reads_the_own_transactions_and_nothing_of_the_till(live_world):
    make_transaction(live_world.act, live_world.bob)
    with scope(SERVICE):
        Customer.objects.create(
            brand=live_world.act, owner_id=live_world.bob.pk, provider="stand_in", stripe_customer_id="cus_1"
        )
        OverageReport.objects.create(
            brand=live_world.act,
            owner_id=live_world.bob.pk,
            entry_id=uuid7(),
            amount_microusd=25_000,
            used_at=timezone.now(),
        )

    for user, seen in ((live_world.bob, 1), (live_world.alice, 0)):
        with scope(member(live_world.act, user)):
            assert BillingTransaction.objects.count() == seen
            for table in ("billing_customer", "billing_overagereport", "billing_stripeevent"):
                assert refused(f"select * from {table}") == trial.DENIED
            assert refused("update billing_billingtransaction set status = 'paid'") == trial.DENIED
