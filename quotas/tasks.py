import logging

from celery import shared_task

from events import alarms
from quotas import alerts, ledger, proof, rolls

log = logging.getLogger(__name__)


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # one short transaction for each, not one for all
def void_expired_holds() -> int:
    """Give back holds that outlived their turns. Returns how many reservations; a healthy system answers 0."""
    return ledger.void_expired()


@shared_task(periodic=True)  # type: ignore[call-overload]
def prove_balances() -> int:
    """Prove every bucket. Returns the number of drifts, each logged as an error with its row."""
    found = proof.drifts()
    for drift in found:
        log.error("balance drift: %s", drift)
    alerts.tell_staff(found)
    alarms.report("balance_drift", len(found), detail="; ".join(map(str, found[:2])))
    return len(found)


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]
def reset_monthly_usage() -> int:
    """Open the months that have begun, for brands whose hour has come. Returns how many."""
    return rolls.reset_monthly_usage().opened


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]
def reset_monthly_overages() -> int:
    """The same for what is charged beyond the plan."""
    return rolls.reset_monthly_overages().opened


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # one short transaction for each, not one for all
def tell_of_limits() -> int:
    """Tell of limits that came near or were reached. Returns how many people were told."""
    return alerts.look()
