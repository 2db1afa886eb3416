"""How Stripe says no: the errors of its API that our till can meet, in its own words and codes."""

from typing import Any


class Refusal(Exception):
    """One error of the API.

    is_final  what was done before it stays done, and the idempotency key remembers it: a card that was asked and said no
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str = "",
        param: str = "",
        is_final: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status, self.is_final = status, is_final
        named = {"code": code, "param": param, **more}
        self.body: dict[str, Any] = {
            "error": {"type": kind, "message": message, **{name: value for name, value in named.items() if value}}
        }


def unknown(path: str) -> Refusal:
    return Refusal(f"Received unknown parameter: {path}", code="parameter_unknown", param=path)


def missing(path: str) -> Refusal:
    return Refusal(f"Missing required param: {path}.", code="parameter_missing", param=path)


def no_such(kind: str, its_id: str, *, param: str = "id") -> Refusal:
    words = kind.replace(".", " ").replace("_", " ")
    return Refusal(f"No such {words}: '{its_id}'", status=404, code="resource_missing", param=param)


def not_here(path: str) -> Refusal:
    """Stripe can; the stand-in says that it cannot, because a parameter that is silently ignored hides a mistake."""
    return Refusal(
        f"The local stand-in for Stripe does not do `{path}`. Teach it (billing/standin), or do without.",
        code="stand_in_cannot",
        param=path,
    )


def declined(*, decline_code: str = "generic_decline", is_final: bool = False, **more: Any) -> Refusal:
    return Refusal(
        "Your card was declined.",
        status=402,
        kind="card_error",
        code="card_declined",
        decline_code=decline_code,
        is_final=is_final,
        **more,
    )
