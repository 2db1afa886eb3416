"""What a brand sells, told to the brand's own row: who refuses a question names only the ways on that are there."""

from django.db.models import Q

from accounts import brands
from accounts.models import Brand
from billing.models import CreditPackOffer, Plan
from lib.db import on_commit


def tell(brand: Brand) -> None:
    """Write down on the brand which plans somebody could buy there now, and packs of which meters.

    In the service scope, in the transaction that changed one of them: the brand's lock lets each of two see the other.
    Every web process knows it within accounts.brands.FRESH_FOR_S.
    """
    Brand.objects.select_for_update(no_key=True).get(pk=brand.pk)
    costing = Q(price_microusd__gt=0) | Q(overage_by_default=True)
    plans = Plan.objects.filter(costing, brand=brand, subject=Plan.Subject.MEMBER, is_active=True, is_offered=True)
    packs = CreditPackOffer.objects.filter(brand=brand, is_active=True)
    brand.sold_plans = sorted(plans.values_list("code", flat=True))
    brand.sold_packs = sorted(set(packs.values_list("meter", flat=True)))
    brand.save(update_fields=["sold_plans", "sold_packs"])
    on_commit(brands.forget)
