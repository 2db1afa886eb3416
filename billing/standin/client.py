"""A Stripe that lives in this process: `stripe.StripeClient("sk_test_standin", http_client=StandIn())`.

The official SDK talks to it as it would to api.stripe.com: it encodes, we decode, and what we answer it decodes. Nothing
leaves the machine and no money moves.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import stripe

from billing.standin import catalogue, checkout, customers, delivery, invoices, meters, payments, portal, subscriptions
from billing.standin.models import StandInRequest
from billing.standin.refusals import Refusal
from billing.standin.routes import find
from billing.standin.store import Body, asking, attempt, changing, expanded, new_id
from lib import clock
from lib.db import db

KEYS_LAST = timedelta(hours=24)
CALLS = (
    catalogue,
    checkout,
    customers,
    delivery,
    invoices,
    meters,
    payments,
    portal,
    subscriptions,
)  # imported for their routes
Answer = tuple[str, int, dict[str, str]]


class StandIn(stripe.HTTPClient):
    """Stands where the SDK has `requests`. Everything it knows is in the database, so any number of them is one Stripe."""

    name = "chatsite-stand-in"

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None, **_: Any
    ) -> Answer:
        headers, parts = headers or {}, urlsplit(url)
        encoded = (post_data or "") if method == "post" else parts.query
        try:
            return self._answer(method.upper(), unquote(parts.path), encoded, headers)
        except Refusal as refusal:
            return _said(refusal.status, refusal.body)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        said, status, answered = await db(self.request, method, url, headers, post_data)
        return said.encode(), status, answered

    def close(self) -> None:
        pass

    async def close_async(self) -> None:
        pass

    def _answer(self, method: str, path: str, encoded: str, headers: Mapping[str, str]) -> Answer:
        if not headers.get("Authorization", "").startswith("Bearer sk_"):
            raise Refusal("Invalid API Key provided", status=401)
        if headers.get("Stripe-Version") != stripe.api_version:
            raise Refusal(f"Invalid Stripe API version: {headers.get('Stripe-Version')}")
        if method == "GET":
            with asking():
                body, expand = find(method, path).answer(path, encoded)
                return _said(200, expanded(body, expand))
        with changing():
            return self._once(method, path, encoded, headers.get("Idempotency-Key") or "")

    def _once(self, method: str, path: str, encoded: str, key: str) -> Answer:
        """The first answer to a key is the answer, however often it is asked (S-11)."""
        fingerprint = hashlib.sha256(f"{method} {path} {encoded}".encode()).hexdigest()
        now = clock.now()
        known = StandInRequest.objects.filter(pk=key).first() if key else None
        if known is not None and known.created_at > now - KEYS_LAST:
            if known.fingerprint != fingerprint:
                raise Refusal(
                    "Keys for idempotent requests can only be used with the same parameters they were first used with. "
                    f"Try using a key other than '{key}' if you meant to execute a different request.",
                    kind="idempotency_error",
                )
            return _said(known.status, known.body, replayed=True)
        status, body = self._do(method, path, encoded)
        if key:
            answer = {"fingerprint": fingerprint, "status": status, "body": body, "created_at": now}
            StandInRequest.objects.update_or_create(key=key, defaults=answer)
        return _said(status, body)

    def _do(self, method: str, path: str, encoded: str) -> tuple[int, Body]:
        found = find(method, path)
        answer, refusal = attempt(lambda: found.answer(path, encoded))
        if answer is not None:
            return 200, expanded(*answer)
        assert refusal is not None
        if not refusal.is_final:
            raise refusal
        return refusal.status, refusal.body


def _said(status: int, body: Body, *, replayed: bool = False) -> Answer:
    headers = {"Request-Id": new_id("req"), "Stripe-Version": stripe.api_version, "Content-Type": "application/json"}
    return json.dumps(body), status, {**headers, **({"Idempotent-Replayed": "true"} if replayed else {})}
