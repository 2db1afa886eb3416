"""The brand's chain: which models may answer, in which order, when the one that was asked cannot."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from accounts import brands
from lib.db import Principal, opening
from lib.errors import Invalid
from providers import breaker
from providers.calls import Call, platform_key
from providers.models import Fallback
from providers.offers import NoSuchModel, Offer, known, offers

MOST = 5  # models in one chain: a member waits for each of them
LEAST_ANSWER_TOKENS = 256  # a model with less room than this for its answer, or than was asked for, is passed over

CHAIN = """
select f.provider_id from providers_fallback f join accounts_brand b on b.id = f.brand_id
where f.brand_id = %(brand)s and f.provider_id <> all (b.withheld_models) order by f.position, f.id limit %(most)s
"""


def chain(principal: Principal, brand_id: UUID) -> list[UUID]:
    """The brand's models in order, but for those it withholds by now; empty: this brand wants no fallback."""
    with opening(principal, (CHAIN, {"brand": brand_id, "most": MOST})) as (rows,):
        return [row.provider_id for row in rows]


def rest_of(offer: Offer) -> breaker.Rest | None:
    """What keeps this model from being asked now with our own key, if anything does."""
    if not breaker.is_any_trouble():
        return None
    key = platform_key(offer.protocol, offer.base_url)
    return breaker.resting(offer.protocol, offer.base_url, offer.model, key)


def stand_in(
    chain: Sequence[UUID],
    *,
    call: Call,
    params: Mapping[str, Any],
    prompt_tokens: int,
    tried: set[UUID],
    can: Callable[[Offer], bool],
) -> tuple[Offer, Call] | None:
    """The next model of the chain that can take over this call, with no more tokens than are held for it.

    It is offered and priced, does not rest, can do what is asked, and has room for it. None = there is none.

    params  what was asked for, without the defaults of the model that was asked first
    can     whether a model knows the call's parameters, tools and pictures
    """
    for provider_id in chain:
        offer = known().get(provider_id)
        if offer is None or offer.id in tried or not offer.is_askable or offer.kind != "chat" or rest_of(offer):
            continue
        most = min(call.max_tokens, offer.max_tokens, offer.context_window - prompt_tokens)
        if not can(offer) or most < min(call.max_tokens, LEAST_ANSWER_TOKENS):
            continue
        return offer, replace(
            call,
            protocol=offer.protocol,
            model=offer.model,
            base_url=offer.base_url,
            max_tokens=most,
            params={**offer.params, **params},
        )
    return None


def places(brand_id: UUID) -> list[Fallback]:
    """The brand's chain as it is edited, with its models, in an open scope."""
    return list(_of(brand_id).select_related("provider"))


def _of(brand_id: UUID) -> QuerySet[Fallback]:
    return Fallback.objects.filter(brand_id=brand_id).order_by("position", "id")


def add(brand_id: UUID, provider_id: UUID) -> None:
    """Put a model at the end of the chain; one that is there already stays where it is. Raises NoSuchModel, Invalid."""
    if provider_id not in {row.id for row in offers("chat", without=brands.by_id(brand_id).withheld_models)}:
        raise NoSuchModel(_("This model is not offered (any more). Choose another one."))
    chain = _of(brand_id).select_for_update()
    if len(chain) >= MOST:
        raise Invalid(
            _("A chain has at most %(most)s models: a member waits for each of them. Remove one first.")
            % {"most": MOST}
        )
    last = max((place.position for place in chain), default=0)
    row = Fallback(brand_id=brand_id, provider_id=provider_id, position=last + 1)
    Fallback.objects.bulk_create([row], ignore_conflicts=True)


def move(brand_id: UUID, provider_id: UUID, by: int) -> None:
    """Move a model up (by -1) or down (by 1); at the end of the chain, or gone from it, nothing changes."""
    chain = list(_of(brand_id).select_for_update())
    at = next((number for number, place in enumerate(chain) if place.provider_id == provider_id), None)
    if at is None or not 0 <= at + by < len(chain):
        return
    chain[at], chain[at + by] = chain[at + by], chain[at]
    for position, place in enumerate(chain, start=1):
        place.position = position
    Fallback.objects.bulk_update(chain, ["position"])


def remove(brand_id: UUID, provider_id: UUID) -> None:
    _of(brand_id).filter(provider_id=provider_id).delete()
