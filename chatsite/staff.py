"""The staff's site: Django's own admin in the service scope, with every change in the audit log of the brand it is for."""

import functools
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib.admin import AdminSite, ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.http import urlencode

from accounts.models import Brand, Membership, User
from conversations.engine import health
from events import stream
from lib.db import SERVICE, scope
from lib.errors import Forbidden


class Audited:
    """Beside Django's own log, which only staff see, every change goes to the brand's: who, what, and which fields."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self.record(request, obj, "added", message)
        return super().log_addition(request, obj, message)  # type: ignore[misc]

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self.record(request, obj, "changed", message)
        return super().log_change(request, obj, message)  # type: ignore[misc]

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for obj in queryset:
            self.record(request, obj, "deleted", "")
        return super().log_deletions(request, queryset)  # type: ignore[misc]

    @staticmethod
    def record(request: HttpRequest, obj: Any, did: str, message: Any) -> None:
        for brand_id in brands_of(obj):
            stream.record(
                brand_id,
                f"{obj._meta.model_name}.{did}",
                actor_id=request.user.pk,
                resource=(obj._meta.model_name, obj.pk if isinstance(obj.pk, UUID) else None),
                description=str(obj)[:300],
                changes={"by": "staff", "what": message},
                ip_address=request.META.get("REMOTE_ADDR"),
                user_agent=request.headers.get("User-Agent", ""),
            )


def brands_of(obj: Any) -> Iterable[UUID]:
    """The brands whose log a change of this row belongs in; none for what is ours alone (providers, groups)."""
    if isinstance(obj, Brand):
        return [obj.pk]
    if isinstance(obj, User):
        return Membership.objects.filter(user=obj).values_list("brand_id", flat=True)
    return [obj.brand_id] if hasattr(obj, "brand_id") else []


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
            with scope(SERVICE):
                response = inner(request, *args, **kwargs)
                return response.render() if hasattr(response, "render") else response  # lists are read while drawn

        return outer

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """With `lacks_mfa`, on which every page of staff asks for a second step."""
        lacks_mfa = request.user.is_authenticated and not is_mfa_enabled(request.user)
        return {**super().each_context(request), "lacks_mfa": lacks_mfa}

    def get_urls(self) -> list[Any]:
        return [path("models/", self.admin_view(self.models_view), name="models"), *super().get_urls()]

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
