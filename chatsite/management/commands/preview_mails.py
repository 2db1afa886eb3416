"""Writes every mail there is into a folder, as text and as HTML in a brand's look, with made-up data."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from accounts.models import Brand
from events.delivery.previews import previews
from lib.commands import OperatorCommand
from lib.errors import NotFound


class Command(OperatorCommand):
    help = "Write every mail into a folder, in each language, to be looked at in a browser. Nothing is sent."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--brand", required=True, help="slug of the brand whose look they have")
        parser.add_argument("--into", required=True, help="folder, made if it is not there")

    def work(self, **options: Any) -> dict[str, Any]:
        look = Brand.objects.filter(slug=options["brand"]).first()
        if look is None:
            raise NotFound(f"There is no brand {options['brand']}. `manage.py create_brand` makes one.")
        folder, count = Path(options["into"]), 0
        for language, _name in settings.LANGUAGES:
            for mail in previews(look, language):
                here = folder / language / mail.template
                here.parent.mkdir(parents=True, exist_ok=True)
                here.with_name(f"{here.name}.txt").write_text(f"{mail.subject}\n\n{mail.text}\n")
                here.with_name(f"{here.name}.html").write_text(mail.html)
                count += 1
        return {"mails": count, "into": str(folder)}

    def words(self, result: dict[str, Any]) -> str:
        return f"{result['mails']} mails are in {result['into']}: open their .html in a browser."
