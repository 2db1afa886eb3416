"""Our own REST: one base for every address under `/api/v1/`, on Django REST framework.

A view says for each method what it takes and tells (`@operation`), and calls the functions that the pages call. Who is
asking, their walls, strict input, Idempotency-Keys, ETags, pages of a list and the description of it all
(`accounts.rest.schema`) are here. Refusals are the tree of `lib.errors`, raised on: one middleware renders them, so a
refused request rolls back.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from inspect import iscoroutinefunction
from typing import Any, NamedTuple, NoReturn, TypeVar, cast
from urllib.parse import urlencode

import orjson
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework import serializers
from rest_framework.views import APIView

from accounts import access, confirming, idempotency
from accounts.access import BrandRequest, declare
from accounts.rest import tags
from accounts.rest.fields import Query, ShownOnce, Strict, first_problem
from accounts.rest.schema import Description
from lib import strict_json
from lib.db import Role, scope
from lib.errors import DomainError, Forbidden, Invalid, WrongMethod

Answer = serializers.BaseSerializer[Any]
Handler = TypeVar("Handler", bound=Callable[..., Any])
JSON = "application/json"
SAFE = {"GET", "HEAD"}
FIELDS = "fields"  # of the query: which fields of an answer are wanted


class NotJson(DomainError):
    """The body must be JSON, and say so: `Content-Type: application/json`."""

    status, code = 415, "unsupported_media_type"


class ChangedMeanwhile(DomainError):
    """This was changed since you read it (`If-Match`). Read it again; nothing was changed by this request."""

    status, code = 412, "changed_meanwhile"


class Listed(NamedTuple):
    """One page of a list: what stands on it, and where the next one begins (empty: there is none)."""

    rows: Sequence[Any]
    more: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address.

    name       its operationId, after the function of S0, S1, S2 or S4 that it is
    needed     scopes, of which a key must have one; a person's own session needs none
    query      what may follow the question mark
    asks       what the body must be
    answers    what is told: a serializer, with many=True for a list
    role       whose rows it sees, when not the caller's own: "app_brand" is for admins and owners
    keys_only  no session may: it is about talks that go on elsewhere
    goes_out   it opens its scopes itself: it acts as the service too, or goes to somebody else's server
    confirmed  a session, or an app's token, must have proved of late who is there (A-17); for a key that was done when it
               was made
    takes_key  an Idempotency-Key makes a repeat the same request. What goes out sees to that itself, by do() or otherwise
    spends     it may be refused for quota
    streams    it answers as server-sent events too
    tagged     its answer has an ETag, and If-Match is heard where it changes something; what goes out hears it by do()
    asked, told  examples of body and answer
    """

    name: str
    needed: tuple[str, ...]
    query: type[Query] = Query
    asks: type[Strict] | None = None
    answers: Answer | None = None
    status: int = 200
    role: Role | None = None
    keys_only: bool = False
    goes_out: bool = False
    confirmed: bool = False
    takes_key: bool = False
    spends: bool = False
    tagged: bool = False
    streams: bool = False
    asked: Mapping[str, Any] = field(default_factory=dict)
    told: Any = None


def operation(name: str, *needed: str, **said: Any) -> Callable[[Handler], Handler]:
    """Make a method of an Api one that is described by its arguments (see Operation) and its docstring.

    The first line of the docstring is its title, the rest says what a caller must know. What it returns is rendered by
    `answers`: a row, a Listed, or None for nothing.
    """
    spec = Operation(name, needed, **said)

    def decorate(handler: Handler) -> Handler:
        @functools.wraps(handler)
        def wrapper(self: "Api", request: BrandRequest, **ids: Any) -> HttpResponseBase:
            deed = functools.partial(handler, self, request, **ids)
            return self.tell(request, deed()) if spec.goes_out else self.do(request, ids, deed)

        chosen = handler if iscoroutinefunction(handler) else wrapper
        cast(Any, chosen).operation = spec
        return cast(Handler, chosen)

    return decorate


class Api(APIView):
    """One address. `query` and `asked` are what came, read and checked; `request.principal` is who asks."""

    http_method_names = ["get", "head", "post", "put", "patch", "delete"]
    renderer_classes = parser_classes = ()  # JSON both ways, read and written here
    schema = Description()
    tag = ""  # the section of the description that it stands in
    query: Mapping[str, Any]
    asked: Mapping[str, Any]
    wanted: frozenset[str] | None = None  # fields of the answer; None = all

    @classmethod
    def as_view(cls, **options: Any) -> Any:
        return declare(super().as_view(**options), "api")

    @classmethod
    def operations(cls) -> dict[str, Operation]:
        found = {name.upper(): getattr(getattr(cls, name, None), "operation", None) for name in cls.http_method_names}
        return {method: spec for method, spec in found.items() if spec}

    def dispatch(self, request: HttpRequest, *args: Any, **ids: Any) -> HttpResponseBase:
        with ExitStack() as self.walls:
            return super().dispatch(request, *args, **ids)

    def initialize_request(self, request: HttpRequest, *args: Any, **ids: Any) -> Any:
        return request  # Django's own will do: nothing here is asked of another

    def initial(self, request: HttpRequest, *args: Any, **ids: Any) -> None:
        spec = self.operation_of(request)
        asking = cast(BrandRequest, request)
        ask = access.key_caller if spec.keys_only else access.caller
        asking.principal = who = ask(request, *spec.needed)
        if spec.keys_only and who.key_id is None:
            raise Forbidden("This is for API keys: send one that has the scope, instead of an app's token.")
        is_proved = not spec.confirmed or who.key_id is not None or confirming.is_proved(request)
        if spec.role:
            asking.principal = who = replace(who, role=spec.role)
        if not spec.goes_out:
            asking.standing = self.walls.enter_context(scope(who))
        elif who.key_id is None:  # a key's look-up has proved its person's standing
            with scope(who) as asking.standing:
                pass
        if not is_proved:
            raise confirming.NotConfirmed
        self.read_query(asking, spec)
        if request.method not in SAFE:
            refuse_other_than_json(request)
        if spec.asks:
            self.asked = understood(spec.asks, strict_json.read(request.body or b"{}"))

    def operation_of(self, request: HttpRequest) -> Operation:
        operations = self.operations()
        spec = operations.get("GET" if request.method == "HEAD" else str(request.method))
        if spec is None:
            raise WrongMethod(*operations, *(["HEAD"] if "GET" in operations else []))
        return spec

    def read_query(self, request: HttpRequest, spec: Operation) -> None:
        """Take apart what follows the question mark, and refuse what nobody here knows."""
        given = request.GET.dict()
        if twice := next((name for name in request.GET if len(request.GET.getlist(name)) > 1), None):
            raise Invalid(f"{twice[:80]} is given more than once.", param=twice[:80])
        told = spec.answers and getattr(spec.answers, "child", spec.answers)
        if request.method in SAFE and isinstance(told, serializers.Serializer) and FIELDS in given:
            self.wanted = _wanted(given.pop(FIELDS), told)
        self.query = understood(spec.query, given)

    def do(self, request: BrandRequest, ids: Mapping[str, Any], deed: Callable[[], Any]) -> HttpResponseBase:
        """Do it, in the open scope, and tell of it: once for each Idempotency-Key, and only to what If-Match names.

        The key, the deed and what is kept of the answer are one transaction: a process that dies in between leaves none of
        them. Of the same request at the same moment the second one waits for the first. A refused one keeps no key.
        """
        spec, who = self.operation_of(request), request.principal
        key = request.headers.get("Idempotency-Key", "") if spec.takes_key else ""
        if key:
            record_id, first = idempotency.claim(who, route=f"rest {spec.name}", key=key, request_hash=self.named(ids))
            if first is not None:
                return as_json(first, spec.status)
        if spec.tagged and request.method not in SAFE and (wanted := request.headers.get("If-Match")):
            self.refuse_if_changed(request, wanted, ids)
        found = deed()
        if key:
            assert spec.answers is not None
            told = orjson.loads(orjson.dumps(self.shown(spec.answers, found)))
            for name, field_ in cast(Any, spec.answers).fields.items():
                if isinstance(field_, ShownOnce):
                    told.pop(name, None)
            idempotency.keep(record_id, told, status=spec.status)
        return self.tell(request, found)

    def told_before(self, request: BrandRequest, ids: Mapping[str, Any]) -> HttpResponseBase | None:
        """The first answer to this Idempotency-Key, if there is one: for what goes out before do(). In the open scope."""
        spec, key = self.operation_of(request), request.headers.get("Idempotency-Key", "")
        if not key:
            return None
        first = idempotency.first(request.principal, route=f"rest {spec.name}", key=key, request_hash=self.named(ids))
        return None if first is None else as_json(first, spec.status)

    def named(self, ids: Mapping[str, Any]) -> str:
        """What was asked, of what: a key that comes with anything else is refused."""
        return idempotency.fingerprint(sorted(ids.items()), sorted(getattr(self, "asked", {}).items()))

    def tell(self, request: BrandRequest, found: Any) -> HttpResponseBase:
        """What a handler found, as the answer."""
        spec = self.operation_of(request)
        if isinstance(found, HttpResponseBase):
            return found
        if found is None or spec.answers is None:
            return HttpResponse(status=204)
        rows, more = found if isinstance(found, Listed) else (found, "")
        response = as_json(self.shown(spec.answers, rows), spec.status)
        if more:
            address = f"{request.path}?{urlencode({**request.GET.dict(), 'after': more})}"
            response.headers["Link"] = f'<{address}>; rel="next"'
        if spec.tagged:
            response.headers["ETag"] = tag = tags.tag(spec.answers, rows, response.content)
            if request.method in SAFE and tags.is_still(request.headers.get("If-None-Match", ""), tag):
                return HttpResponse(status=304, headers={"ETag": tag})
        return response

    def shown(self, answers: Answer, found: Any) -> Any:
        many = isinstance(answers, serializers.ListSerializer)
        one: Any = type(getattr(answers, "child", answers))()
        if self.wanted is not None:
            for name in set(one.fields) - self.wanted:
                del one.fields[name]
        return [one.to_representation(row) for row in found] if many else one.to_representation(found)

    def refuse_if_changed(self, request: BrandRequest, wanted: str, ids: Mapping[str, Any]) -> None:
        """If-Match: whoever changes something says what they saw, and is refused when it is not that any more."""
        answers = self.operation_of(request).answers or self.operations()["GET"].answers
        assert answers is not None
        if not tags.names_state(wanted, answers, self.locked(request, **ids)):
            raise ChangedMeanwhile

    def locked(self, request: BrandRequest, **ids: Any) -> Any:
        """What GET tells of, so that nobody else changes it in this transaction. Where `tagged` operations change it."""
        raise NotImplementedError

    def handle_exception(self, exc: Exception) -> NoReturn:
        raise exc


class AsyncApi(Api):
    """One address whose methods are async: no scope is open, and they find out who asks in their hop (`access.caller`)."""

    async def dispatch(self, request: HttpRequest, *args: Any, **ids: Any) -> HttpResponseBase:  # type: ignore[override]
        self.read_query(request, self.operation_of(request))
        response: HttpResponseBase = await getattr(self, str(request.method).lower())(request, **ids)
        return response


def newest(view: Api, rows: Any) -> Listed:
    """The page of rows that a NewestFirst asks for."""
    limit = view.query["limit"]
    if after := view.query.get("after"):
        rows = rows.filter(pk__lt=after)
    found = list(rows.order_by("-pk")[: limit + 1])
    return Listed(found[:limit], str(found[limit - 1].pk) if len(found) > limit else "")


def refuse_other_than_json(request: HttpRequest) -> None:
    """A form or plain text, which any page of the web may send here, is no JSON (A-06)."""
    is_empty = request.headers.get("Content-Length", "") in ("", "0") and "Transfer-Encoding" not in request.headers
    if not is_empty and request.content_type != JSON:
        raise NotJson


def understood(shape: type[Strict], given: Mapping[str, Any]) -> dict[str, Any]:
    """What was sent, as `shape` reads it. Raises Invalid, which names the field."""
    read = shape(data=given)
    try:
        read.is_valid(raise_exception=True)
    except serializers.ValidationError as error:
        param, problem = first_problem(error.detail)
        raised = Invalid(f"{param}: {problem}" if param else problem, **({"param": param} if param else {}))
        raised.code = "invalid_value"
        raise raised from None
    return dict(read.validated_data)


def as_json(body: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(orjson.dumps(body), content_type=JSON, status=status)


def _wanted(given: str, told: serializers.Serializer[Any]) -> frozenset[str]:
    wanted = frozenset(given.split(","))
    if unknown := sorted(wanted - set(told.fields)):
        there_are = ", ".join(told.fields)
        raise Invalid(f"There is no field {unknown[0][:80]!r}. There are: {there_are}.", param=FIELDS)
    return wanted
