"""What staff still have to enter before anybody can ask anything."""

from collections.abc import Iterator

from django.conf import settings
from django.db import DatabaseError, connections
from django.db.models import OuterRef, Subquery
from django.http.request import validate_host

from accounts.models import Brand, User
from billing.models import Plan
from chatsite.deployment.finding import Finding
from chatsite.management.commands.demo_data import PASSWORD
from lib import clock
from lib.db import SERVICE, scope
from providers import calls, resealing
from providers.models import AIProvider, Price


def _is_there() -> bool:
    """Whether there are tables to look into; log_ins() and migrations() say so otherwise."""
    try:
        with scope(SERVICE), connections["service"].cursor() as cursor:
            cursor.execute("select 1 from accounts_brand, accounts_user, providers_price limit 1")
    except DatabaseError:
        return False
    return True


def brands() -> Iterator[Finding]:
    if not _is_there():
        return
    with scope(SERVICE):
        domains = list(Brand.objects.filter(is_active=True).values_list("domain", flat=True))
    if not domains:
        yield Finding(
            "error",
            "brands",
            "There is no brand yet.",
            "Every address answers: no brand lives here.",
            "manage.py create_brand --help",
        )
    for domain in domains:
        if not validate_host(domain, settings.ALLOWED_HOSTS):
            yield Finding(
                "error",
                "brands",
                f"The brand at {domain} is not in ALLOWED_HOSTS.",
                "Its members see `Bad Request`.",
                f"Add {domain} to ALLOWED_HOSTS and to the proxy's names, and restart the web processes one by one.",
            )


def default_plans() -> Iterator[Finding]:
    """What has to be paid first, as what new members get: the forms refuse it, a row may be older than they are."""
    if not _is_there():
        return
    with scope(SERVICE):
        default = Brand.objects.filter(pk=OuterRef("brand"), is_active=True).values("default_plan")[:1]
        plans = Plan.objects.filter(code=Subquery(default), subject=Plan.Subject.MEMBER).select_related("brand")
        found = [plan for plan in plans if plan.is_paid_first]
    for plan in found:
        yield Finding(
            "warning",
            "plans",
            f"New members of {plan.brand} should get {plan}, which costs {plan.price_in_words} and has no trial.",
            "They get the brand's first free plan instead, or none; so does everybody who cancels.",
            f"Choose another default plan on the brand's page in /admin/, or give {plan} trial days.",
        )


def staff() -> Iterator[Finding]:
    if not _is_there():
        return
    with scope(SERVICE):
        has_staff = User.objects.filter(is_superuser=True, is_active=True).exists()
        demo = [
            user.email
            for user in User.objects.filter(email__endswith="@example.com", is_active=True)[:20]
            if user.check_password(PASSWORD)
        ]
    if not has_staff:
        yield Finding(
            "error",
            "staff",
            "There is no superuser.",
            "Nobody can open /admin/ to set models, prices and plans.",
            "manage.py createsuperuser",
        )
    if demo and not settings.DEVELOPMENT:
        yield Finding(
            "error",
            "staff",
            f"{', '.join(demo)}: people of the demo data, with a password that everybody can read.",
            "Anybody signs in as them, one of them is staff.",
            "Start with an empty database, or deactivate these accounts in /admin/.",
        )


def own_keys() -> Iterator[Finding]:
    """Nothing of this without a ring: configuration.sealing() says so then."""
    if not _is_there() or not settings.ENCRYPTION_KEYS:
        return
    if lost := resealing.without_key():
        yield Finding(
            "error",
            "own keys",
            f"{lost} of the members' own keys were sealed with a key that is not in ENCRYPTION_KEYS.",
            "Questions that they should pay for are refused.",
            "Put that key back at the end of ENCRYPTION_KEYS, and run manage.py reencrypt_keys (docs/own-keys.md).",
        )


def models() -> Iterator[Finding]:
    if not _is_there():
        return
    with scope(SERVICE):
        offered = list(AIProvider.objects.filter(is_active=True))
        priced = set(Price.objects.filter(starts_at__lte=clock.now()).values_list("provider_id", flat=True))
    if not [provider for provider in offered if provider.protocol != "demo"]:
        yield Finding(
            "warning",
            "models",
            "No model of a vendor is offered.",
            "Members can ask nobody, or the demo model only.",
            "Set a vendor's key and offer its models: manage.py add_provider --help",
        )
    for provider in offered:
        if provider.pk not in priced:
            yield Finding(
                "error",
                "models",
                f"{provider.name} is offered without a price for today.",
                "Asking it is refused: nobody could say what an answer costs.",
                "Give it a price that has begun in /admin/ (0 is one), or take it off the list.",
            )
        if provider.protocol == "demo":
            if not settings.DEVELOPMENT:
                yield Finding(
                    "warning",
                    "models",
                    f"{provider.name} is the demo model.",
                    "Members get made-up answers, and are charged for them.",
                    "Deactivate it in /admin/.",
                )
        elif calls.lacks_key(provider.protocol, provider.base_url):
            yield Finding(
                "warning",
                "models",
                f"There is no key for {provider.name}'s vendor.",
                "It is offered to nobody, and asking it is refused.",
                "Set the vendor's key (docs/configuration.md) and restart the web processes, or deactivate the model.",
            )
