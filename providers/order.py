"""The order in which a brand shows the models. It never decides what is offered, or which one answers."""

from collections.abc import Sequence
from uuid import UUID

from providers.models import Place
from providers.offers import Offer


def in_order(brand_id: UUID, offered: Sequence[Offer]) -> list[Offer]:
    """Those that the brand placed first, in its order; the others after, in the order staff gave them."""
    places = dict(Place.objects.filter(brand_id=brand_id).values_list("provider_id", "position"))
    last = max(places.values(), default=0) + 1
    return sorted(offered, key=lambda offer: places.get(offer.id, last))


def move(brand_id: UUID, offered: Sequence[Offer], provider_id: UUID, by: int) -> None:
    """Move a model up (by -1) or down (by 1) in what is offered; at the end, or gone from it, nothing changes."""
    list(Place.objects.filter(brand_id=brand_id).select_for_update())
    ids = [offer.id for offer in in_order(brand_id, offered)]
    at = ids.index(provider_id) if provider_id in ids else -1
    if at < 0 or not 0 <= at + by < len(ids):
        return
    ids[at], ids[at + by] = ids[at + by], ids[at]
    rows = [Place(brand_id=brand_id, provider_id=one, position=position) for position, one in enumerate(ids, start=1)]
    Place.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["brand", "provider"], update_fields=["position"]
    )
