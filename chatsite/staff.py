"""The staff's site: Django's own admin in the service scope, with every change in the audit log of the brand it is for."""

import functools
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from allauth.account.models import EmailAddress
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib.admin import AdminSite, ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.http import urlencode

from accounts.models import Brand, Invitation, Membership, User
from conversations.engine import health
from events import activity
from events.activity import changes
from events.models import Activity
from lib.db import SERVICE, scope
from lib.errors import Forbidden


class Audited:
    """Every change of staff's goes into the audit log of the brand it is for, or the house's: who, what, before and after.

    Django's own log is not written beside it; a row's history is read from ours.
    """

    object_history_template = "admin/history.html"

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Remembers how the row stands, before it is saved."""
        if change:
            _seen(request)[obj.pk] = changes.values(_fresh(obj))
        super().save_model(request, obj, form, change)  # type: ignore[misc]

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Rows that are changed on the page of another one get lines of their own."""
        known = formset.model._default_manager.filter(pk__in=[one.instance.pk for one in formset.initial_forms])
        before = {row.pk: changes.values(row) for row in known}
        super().save_formset(request, form, formset, change)  # type: ignore[misc]
        for row in formset.new_objects:
            self.record(request, row, "added", "", changes.between({}, changes.values(_fresh(row))))
        for row, _fields in formset.changed_objects:
            self.record(request, row, "changed", "", changes.between(before[row.pk], changes.values(_fresh(row))))
        for row in formset.deleted_objects:
            self.record(request, row, "deleted", "", changes.between(before.get(row.pk, {}), {}))

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:
        self.record(request, obj, "added", message, changes.between({}, changes.values(_fresh(obj))))

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """A form's row was seen by save_model(); an action has in memory how it was."""
        before = _seen(request).pop(obj.pk, None) or changes.values(obj)
        self.record(request, obj, "changed", message, changes.between(before, changes.values(_fresh(obj))))

    def log_deletions(self, request: HttpRequest, queryset: Any) -> None:
        for obj in queryset:
            self.record(request, obj, "deleted", "", changes.between(changes.values(obj), {}))

    @staticmethod
    def record(request: HttpRequest, obj: Any, did: str, message: Any, changed: changes.Changes) -> None:
        """`message` is a sentence of an action's, or Django's list of the fields that a form changed."""
        named = "" if type(obj) in NAMELESS else str(obj)
        for brand_id in brands_of(obj):
            activity.record(
                brand_id,
                f"{obj._meta.model_name}.{did}",
                actor_id=request.user.pk,
                resource=(obj._meta.model_name, obj.pk if isinstance(obj.pk, UUID) else None),
                description=": ".join(part for part in (named, message) if part and isinstance(part, str)),
                changes=changed,
            )

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """What our own log has of this row."""
        lines = Activity.objects.filter(resource_id=object_id) if _is_uuid(object_id) else Activity.objects.none()
        lines = lines.select_related("actor", "brand").order_by("-id")[:MOST_HISTORY]
        context = {**(extra_context or {}), "lines": lines, "most": MOST_HISTORY}
        return super().history_view(request, object_id, context)  # type: ignore[misc]


MOST_HISTORY, MOST_RECENT = 200, 10
NAMELESS = {User, EmailAddress, Invitation}  # whose name is somebody's address


def _seen(request: Any) -> dict[Any, changes.Values]:
    """How rows stood before this request saved them."""
    if not hasattr(request, "rows_before"):
        request.rows_before = {}
    found: dict[Any, changes.Values] = request.rows_before
    return found


def _fresh(row: Any) -> Any:
    """The row as it stands in the database; as it is in memory when it stands there no more."""
    return type(row)._default_manager.filter(pk=row.pk).first() or row


def _is_uuid(text: str) -> bool:
    try:
        return bool(UUID(text))
    except ValueError:
        return False


def brands_of(obj: Any) -> Sequence[UUID | None]:
    """The brands whose log a change of this row belongs in; None, the house, for what is ours alone (providers, groups)."""
    if isinstance(obj, Brand):
        return [obj.pk]
    if isinstance(obj, User | EmailAddress):
        user_id = obj.pk if isinstance(obj, User) else obj.user_id
        return list(
            Membership.objects.filter(user=user_id).order_by("brand_id").values_list("brand_id", flat=True)
        ) or [None]
    return [getattr(obj, "brand_id", None)]


# Secrets of second factors, and names of sessions: whoever saw those could be somebody else.
NOT_SHOWN = ("mfa", "socialaccount", "usersessions")


class StaffSite(AdminSite):
    site_header = site_title = "chatsite"
    index_title = "Staff"

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        page = admin_class or ModelAdmin
        if page.__module__.removeprefix("allauth.").removesuffix(".admin") in NOT_SHOWN:
            return
        super().register(
            model_or_iterable, type(page.__name__, (Audited, page), {"__module__": page.__module__}), **options
        )

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        inner = super().admin_view(view, cacheable)

        @functools.wraps(inner)
        def outer(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if not self.has_permission(request):
                return inner(request, *args, **kwargs)  # to the log-in page, without any rights
            if settings.STAFF_NEED_MFA and not is_mfa_enabled(request.user):
                return redirect("mfa_index")
            with scope(SERVICE), activity.by_staff():
                response = inner(request, *args, **kwargs)
                return response.render() if hasattr(response, "render") else response  # lists are read while drawn

        return outer

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """With `lacks_mfa`, on which every page of staff asks for a second step."""
        lacks_mfa = request.user.is_authenticated and not is_mfa_enabled(request.user)
        return {**super().each_context(request), "lacks_mfa": lacks_mfa}

    def get_urls(self) -> list[Any]:
        return [path("models/", self.admin_view(self.models_view), name="models"), *super().get_urls()]

    def index(self, request: HttpRequest, extra_context: Any = None) -> TemplateResponse:
        mine = Activity.objects.filter(actor=cast(User, request.user), actor_kind=Activity.ActorKind.STAFF)
        context = {**(extra_context or {}), "lines": mine.select_related("brand").order_by("-id")[:MOST_RECENT]}
        return super().index(request, context)

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> TemplateResponse:
        response = super().password_change(request, extra_context)
        if request.method == "POST" and response.status_code == 302:
            user_id = cast(User, request.user).pk
            activity.record(None, "password.changed", actor_id=user_id, resource=("user", user_id))
        return response

    def models_view(self, request: HttpRequest) -> HttpResponse:
        """How the models do, over all brands."""
        if not request.user.has_perm("providers.view_aiprovider"):
            raise PermissionDenied
        context = {**self.each_context(request), "title": "How the models do"}
        found = health.context(request.GET.get("period", ""))
        return TemplateResponse(request, "admin/models.html", {**context, **found})

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Staff sign in where everybody does, so that the limits on guessing hold for them too."""
        if self.has_permission(request):
            return redirect("admin:index")
        if request.user.is_authenticated:
            raise Forbidden("Only our staff may go in here. You are signed in with an account that is not theirs.")
        here = request.GET.get("next") or reverse("admin:index")
        return redirect(f"{reverse('account_login')}?{urlencode({'next': here})}")
