"""What the API says of itself: an operation's declaration and docstring as OpenAPI (drf-spectacular)."""

from typing import Any, cast

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from accounts.rest.fields import Free, Problem, ShownOnce, Strict

EVENT_STREAM = "text/event-stream"
REFUSALS = {
    400: ("invalid_value", "The request cannot be used as it is; `param` names the field."),
    401: ("not_authenticated", "No key, or one that is not in force."),
    402: ("quota_exceeded", "The plan, or the brand's pool, has no room. `left`, `resets_at` and `ways` say more."),
    403: ("forbidden", "The key lacks the scope, or a session came without its CSRF token."),
    404: ("not_found", "There is no such thing here, or it belongs to somebody else."),
    409: ("conflict", "The same Idempotency-Key is being worked on. Ask again after `Retry-After` seconds."),
    412: ("changed_meanwhile", "It is not what `If-Match` names any more."),
    413: ("too_large", "More bytes than one request may have."),
    415: ("unsupported_media_type", "The body is not `application/json`."),
    422: ("idempotency_key_reused", "This Idempotency-Key was used for another request."),
    429: ("rate_limit_exceeded", "Too many requests. Ask again after `Retry-After` seconds."),
    502: ("interrupted", "The model's answer was cut off; the text says whether anything was charged."),
    503: ("unavailable", "Nothing was done. Ask again after `Retry-After` seconds."),
}
REQUEST_ID = "0f8fad5bd9cb469fa16570867728950e"


def share_refusals(result: dict[str, Any], **_asked: Any) -> dict[str, Any]:
    """Say each refusal once, and name it where it may come."""
    shared = result["components"].setdefault("responses", {})
    for operations in result["paths"].values():
        for operation in operations.values():
            for status in [status for status in operation["responses"] if status >= "400"]:
                name = REFUSALS[int(status)][0]
                shared[name] = operation["responses"][status]
                operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    return result


class Description(AutoSchema):
    """Reads `Operation`s. Everything that it says is said there, and nowhere a second time."""

    @property
    def spec(self) -> Any:
        return cast(Any, self.view).operations()[self.method]

    @property
    def words(self) -> tuple[str, str]:
        """Title and text of the operation."""
        told = getattr(self.view, self.method.lower()).__doc__ or ""
        title, _, text = told.strip().partition("\n")
        return title.rstrip("."), "\n".join(line.strip() for line in text.strip().splitlines())

    def get_operation_id(self) -> str:
        name: str = self.spec.name
        return name

    def get_summary(self) -> str:
        return self.words[0]

    def get_description(self) -> str:  # type: ignore[override]
        scopes = " or ".join(f"`{scope}`" for scope in self.spec.needed)
        needed = f"Scope of a key: {scopes}."
        who = " For the brand's admins and owners only." if self.spec.role == "app_brand" else ""
        proof = (
            " A session, or an app's token, must have proved its person within ten minutes: else 403 `confirmation_needed`."
            if self.spec.confirmed
            else ""
        )
        return "\n\n".join(filter(None, (self.words[1], needed + who + proof)))

    def get_tags(self) -> list[str]:
        return [cast(Any, self.view).tag]

    def get_auth(self) -> list[dict[str, list[str]]]:
        by_key: dict[str, list[str]] = {"key": list(self.spec.needed)}
        return [by_key] if self.spec.keys_only else [by_key, {"session": []}]

    def get_request_serializer(self) -> Any:
        return self.spec.asks

    def get_response_serializers(self) -> Any:
        spec = self.spec
        found: dict[Any, Any] = {}
        if spec.answers is None:
            found[204] = OpenApiResponse(description="Done.")
        else:
            found[spec.status, "application/json"] = OpenApiResponse(spec.answers, description="The answer.")
        if spec.streams:
            found[spec.status, EVENT_STREAM] = OpenApiResponse(OpenApiTypes.STR, description="The answer.")
        if spec.tagged and self.method == "GET":
            found[304] = OpenApiResponse(description="It is what `If-None-Match` names.")
        return found | {status: OpenApiResponse(Problem, description=REFUSALS[status][1]) for status in self.refusals()}

    def refusals(self) -> list[int]:
        spec = self.spec
        changes = spec.asks is not None or spec.takes_key
        return sorted(
            {400, 401, 403, 404, 429, 503}
            | ({413, 415} if spec.asks else set())
            | ({409, 422} if spec.takes_key else set())
            | ({402} if spec.spends else set())
            | ({502} if spec.streams else set())
            | ({412} if spec.tagged and self.method != "GET" else set())
            | ({409} if changes else set())
        )

    def get_override_parameters(self) -> list[Any]:
        spec = self.spec
        found: list[Any] = [spec.query] if spec.query().fields else []
        told = spec.answers and getattr(spec.answers, "child", spec.answers)
        if self.method == "GET" and told is not None:
            names = ", ".join(name for name, field in told.fields.items() if not isinstance(field, ShownOnce))
            said = f"Only these fields of the answer, with commas between them: {names}."
            found.append(OpenApiParameter("fields", str, description=said))
        if spec.takes_key:
            said = "Your own name for this request, 1 to 255 characters: a repeat within 24 hours is the same request."
            schema = {"type": "string", "minLength": 1, "maxLength": 255}
            found.append(OpenApiParameter("Idempotency-Key", schema, OpenApiParameter.HEADER, description=said))
        if spec.tagged:
            name = "If-None-Match" if self.method == "GET" else "If-Match"
            said = "The `ETag` of what you have: 304 when it is still that." if self.method == "GET" else (
                "The `ETag` of what you saw: 412 when it was changed since."
            )  # fmt: skip
            found.append(OpenApiParameter(name, str, OpenApiParameter.HEADER, description=said))
            said = "Names this state of it."
            found.append(
                OpenApiParameter("ETag", str, OpenApiParameter.HEADER, description=said, response=[spec.status])
            )
        if getattr(spec.answers, "many", False) and "after" in spec.query().fields:
            said = 'The address of the next page, as `<…>; rel="next"`; none on the last one.'
            found.append(OpenApiParameter("Link", str, OpenApiParameter.HEADER, description=said, response=[200]))
        said = "Names this request in our logs; yours, if you sent one."
        found.append(OpenApiParameter("X-Request-Id", str, OpenApiParameter.HEADER, description=said, response=True))
        said = "Seconds to wait before you ask again."
        found.append(
            OpenApiParameter("Retry-After", int, OpenApiParameter.HEADER, description=said, response=[409, 429, 503])
        )
        return found

    def get_examples(self) -> list[OpenApiExample]:
        spec = self.spec
        found = []
        if spec.asked:
            found.append(OpenApiExample("Request", value=spec.asked, request_only=True))
        if spec.told is not None:
            found.append(OpenApiExample("Answer", value=spec.told, response_only=True, status_codes=[spec.status]))
        for status in self.refusals():
            code, detail = REFUSALS[status]
            value = {"code": code, "detail": detail, "request_id": REQUEST_ID}
            found.append(OpenApiExample(code, value=value, response_only=True, status_codes=[status]))
        return found

    def map_parsers(self) -> list[Any]:
        return ["application/json"]

    def map_renderers(self, attribute: str) -> list[Any]:
        return ["application/json"] if attribute == "media_type" else ["json"]

    def _map_serializer_field(self, field: Any, direction: Any, bypass_extensions: bool = False) -> Any:
        """An object of JSON is no "anything"."""
        if not isinstance(field, Free):
            return super()._map_serializer_field(field, direction, bypass_extensions)
        told: dict[str, Any] = {
            "type": ["object", "null"] if field.allow_null else "object",
            "additionalProperties": {},
        }
        return told | ({"description": str(field.help_text)} if field.help_text else {})

    def _postprocess_serializer_schema(self, schema: Any, serializer: Any, direction: Any) -> Any:
        """Nothing unknown is taken, and the description says so."""
        told = super()._postprocess_serializer_schema(schema, serializer, direction)
        return told | {"additionalProperties": False} if isinstance(serializer, Strict) else told

    def _is_list_view(self, serializer: Any = None) -> bool:
        """By what it answers, not by a guess from its name."""
        return bool(getattr(serializer, "many", False))
