"""Numbers as the reader writes them: 1,250 in English, 1.250 in German."""

from django.utils.formats import get_format, number_format


def grouped(number: int) -> str:
    return str(number_format(number, force_grouping=True))


def with_decimals(whole: int, decimals: str) -> str:
    return f"{grouped(whole)}{get_format('DECIMAL_SEPARATOR')}{decimals}" if decimals else grouped(whole)
