"""add_provider: offer a model, or change one that is offered; a new price is a new row from now on."""

from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser

from events import activity
from events.activity import changes
from lib import clock, egress
from lib.commands import OperatorCommand
from lib.errors import Invalid
from providers.calls import lacks_key
from providers.models import AIProvider, Price


class Command(OperatorCommand):
    help = "Offer a model to members, or change one by its identifier. Prices are dollars per million tokens."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--identifier", required=True, help="the name programs use: openai-gpt-4o")
        parser.add_argument("--protocol", required=True, choices=["openai", "anthropic", "demo"])
        parser.add_argument("--model", required=True, help="the vendor's own name of the model")
        parser.add_argument("--name", default="", help="the name members see; the identifier by default")
        parser.add_argument("--description", default="")
        parser.add_argument("--base-url", default="", help="address of a compatible server; the vendor's by default")
        parser.add_argument("--input-price", required=True, help="dollars per million tokens: 2.50")
        parser.add_argument("--output-price", required=True, help="dollars per million tokens: 10")
        parser.add_argument("--max-tokens", type=int, default=2048, help="longest answer")
        parser.add_argument("--context-window", type=int, default=32_000)
        parser.add_argument("--position", type=int, default=100, help="place in the list; the first one is preselected")

    def work(self, **options: Any) -> dict[str, Any]:
        if options["base_url"]:
            try:
                egress.vet_url(options["base_url"], allow=egress.model_servers())
            except egress.Refused as refused:
                raise Invalid(f"{refused.detail} A private server: name its host:port in EGRESS_ALLOW.") from refused
        prices = [microusd(options[name]) for name in ("input_price", "output_price")]
        provider = AIProvider.objects.filter(api_identifier=options["identifier"]).first() or AIProvider(
            api_identifier=options["identifier"]
        )
        provider.name = options["name"] or provider.name or options["identifier"]
        for field in ("protocol", "model", "description", "base_url", "max_tokens", "context_window", "position"):
            setattr(provider, field, options[field])
        try:
            provider.full_clean()
        except ValidationError as error:
            raise Invalid(" ".join(f"{name}: {words[0]}" for name, words in error.message_dict.items())) from error
        is_new = provider._state.adding
        before = {} if is_new else changes.values(AIProvider.objects.get(pk=provider.pk))
        provider.save()
        latest = provider.prices.first()
        if latest is None or [latest.input_microusd_per_mtok, latest.output_microusd_per_mtok] != prices:
            Price.objects.create(
                provider=provider,
                input_microusd_per_mtok=prices[0],
                output_microusd_per_mtok=prices[1],
                starts_at=clock.now(),
            )
        told = changes.between(before, changes.values(provider))
        activity.record(
            None,
            f"aiprovider.{'added' if is_new else 'changed'}",
            actor_id=None,
            resource=("aiprovider", provider.pk),
            description=provider.name,
            changes={**told, "price_microusd_per_mtok": {"input": prices[0], "output": prices[1]}},
        )
        return {
            "id": provider.pk,
            "identifier": provider.api_identifier,
            "name": provider.name,
            "model": provider.model,
            "offered": "only to who brings a key of its vendor: there is none in the environment"
            if lacks_key(provider.protocol, provider.base_url)
            else "yes",
        }


def microusd(dollars: str) -> int:
    """Micro-dollars per million tokens of a price such as 2.50."""
    try:
        amount = Decimal(dollars) * 1_000_000
    except InvalidOperation as error:
        raise Invalid(f"{dollars} is not a price in dollars.") from error
    if not amount.is_finite() or amount < 0 or amount > 10**12:
        raise Invalid(f"{dollars} is not a price in dollars.")
    return int(amount)
