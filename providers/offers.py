"""What is on offer: the active models with today's price, as plain values that a turn carries along."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Subquery
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from lib import clock
from lib.errors import DomainError, NotFound
from providers.calls import lacks_key
from providers.models import AIProvider, Price

IMAGE_TOKENS = 2_500  # what a picture is held for where the model's config says "images": true
FRESH_FOR_S = 5.0  # a change by staff counts after this long in every process
_cache: tuple[float, dict[UUID, "Offer"]] = (-FRESH_FOR_S, {})


class NoSuchModel(NotFound):
    says = gettext_lazy("There is no such model here.")
    code = "model_not_found"


class NoKey(DomainError):
    says = gettext_lazy("There is no key for the model's vendor, so it cannot be asked.")
    status, code = 503, "model_without_key"


class NoPrice(DomainError):
    says = gettext_lazy("The model has no price, so it cannot be asked: nobody could say what an answer costs.")
    status, code = 503, "model_without_price"


@dataclass(frozen=True, slots=True)
class Offer:
    """One model that may be asked. Prices in micro-dollars per million tokens; None = not priced, so not askable."""

    id: UUID
    name: str
    api_identifier: str
    description: str
    kind: str  # "chat" or "embedding"
    protocol: str
    model: str
    base_url: str
    max_tokens: int
    context_window: int
    params: Mapping[str, Any]
    image_tokens: int  # an upper bound for one picture; 0 = the model takes none
    is_active: bool
    lacks_key: bool  # its vendor lets nobody in without one, and there is none
    input_price: int | None
    output_price: int | None
    unknown: frozenset[str] = frozenset()  # parameters that this model refuses, though its protocol has them

    @property
    def is_priced(self) -> bool:
        return self.input_price is not None and self.output_price is not None

    @property
    def is_askable(self) -> bool:
        return self.is_active and not self.lacks_key and self.is_priced

    def cost_microusd(self, prompt_tokens: int, completion_tokens: int) -> int:
        """What an answer costs, rounded up once."""
        total = prompt_tokens * (self.input_price or 0) + completion_tokens * (self.output_price or 0)
        return -(-total // 1_000_000)


def known() -> dict[UUID, Offer]:
    """Every model by id, in the order staff gave them, the inactive ones too: a running turn still needs its price."""
    global _cache
    now = time.monotonic()
    if now - _cache[0] >= FRESH_FOR_S:
        price = Price.objects.filter(provider=OuterRef("pk"), starts_at__lte=clock.now()).order_by("-starts_at")
        rows = AIProvider.objects.annotate(
            input_price=Subquery(price.values("input_microusd_per_mtok")[:1]),
            output_price=Subquery(price.values("output_microusd_per_mtok")[:1]),
        )
        _cache = (now, {row.pk: _offer(row) for row in rows})
    return _cache[1]


def offers(
    *kinds: str, own: Collection[UUID] = (), without: Collection[UUID] = (), only: Collection[str] | None = None
) -> list[Offer]:
    """The models of these kinds that are offered: the active ones, but for those whose vendor wants a key we have not.

    own      the models that the asker's own keys pay for, as own_keys.payable() gave them: these need none of ours
    without  those that the asker's brand does not offer (Brand.withheld_models)
    only     those that the asker's key may ask, by api_identifier; None = all
    """
    rows = [row for row in known().values() if row.id not in without and (only is None or row.api_identifier in only)]
    return [row for row in rows if row.is_active and row.kind in kinds and (not row.lacks_key or row.id in own)]


def offer(
    wanted: UUID | str | None,
    kind: str = "chat",
    *,
    own: Collection[UUID] = (),
    without: Collection[UUID] = (),
    only: Collection[str] | None = None,
) -> Offer:
    """The model with this id or api_identifier; None = the first one. `own`, `without` and `only` as for offers().

    Raises  NoSuchModel, NoKey, NoPrice
    """
    offered = offers(kind, own=own, without=without, only=only)
    if wanted is None:
        found = next(iter(offered), None)
    else:
        found = next((row for row in offered if wanted in (row.id, row.api_identifier)), None)
    if found is None:
        lacking = (row for row in known().values() if row.is_active and row.lacks_key and row.kind == kind)
        if row := next((row for row in lacking if wanted in (row.id, row.api_identifier)), None):
            raise NoKey(
                _("%(model)s has no key of its vendor yet, so it cannot be asked. Choose another model.")
                % {"model": row.name}
            )
        raise NoSuchModel(
            _("This model is not offered here (any more). Choose another one.")
            if wanted
            else _("No model is offered yet.")
        )
    if not found.is_priced:
        raise NoPrice(
            _("%(model)s has no price yet, so it cannot be asked. Staff can add one in the admin.")
            % {"model": found.name}
        )
    return found


def forget() -> None:
    """Read the offers anew; for tests and for the admin's save."""
    global _cache
    _cache = (-FRESH_FOR_S, {})


def _offer(row: Any) -> Offer:
    params = dict(row.config or {})
    images, unknown = params.pop("images", 0), params.pop("unknown", ())
    return Offer(
        id=row.pk,
        name=row.name,
        api_identifier=row.api_identifier,
        description=row.description,
        kind=row.kind,
        protocol=row.protocol,
        model=row.model,
        base_url=row.base_url,
        max_tokens=row.max_tokens,
        context_window=row.context_window,
        params=params,
        image_tokens=IMAGE_TOKENS if images is True else images if isinstance(images, int) else 0,
        is_active=row.is_active,
        lacks_key=lacks_key(row.protocol, row.base_url),
        input_price=row.input_price,
        output_price=row.output_price,
        unknown=frozenset(unknown),
    )
