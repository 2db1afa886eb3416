"""Staff's pages of people and support grants. Passwords are shown to nobody."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.models import Profile, SupportGrant, User
from accounts.support import LONGEST
from lib import clock
from lib.admin import AppendOnlyAdmin

RIGHTS = ["is_staff", "is_superuser", "groups", "user_permissions"]


class NewUserForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ["email"]
        help_texts = {"email": 'They choose their own password with "Forgot your password?" on the sign-in page.'}

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"].lower()
        if User.objects.filter(email=email).exists():
            raise forms.ValidationError("There is an account with this address. Make it a member of the brand instead.")
        return email

    def save(self, commit: bool = True) -> User:
        self.instance.set_unusable_password()
        user: User = super().save(commit)
        return user


@admin.register(User)
class UserAdmin(admin.ModelAdmin):
    """Only superusers touch accounts of staff, or make somebody staff."""

    list_display = ["email", "is_active", "is_staff", "date_joined", "last_login"]
    list_filter = ["is_active", "is_staff", "date_joined"]
    list_per_page = 50
    search_fields = ["email"]
    filter_horizontal = ["groups", "user_permissions"]
    actions = ["suspend", "reinstate"]
    ordering = ["-date_joined"]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **(kwargs if change else {**kwargs, "form": NewUserForm}))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return ["email", "is_active", *RIGHTS, "date_joined", "last_login"] if obj else ["email"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        if obj is None:
            return []
        fixed = ["email", "date_joined", "last_login"]  # whoever sets the address could take over the account
        return fixed if request.user.is_superuser else [*fixed, *RIGHTS]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_guarded = obj is not None and (obj.is_staff or obj.is_superuser)
        may = super().has_change_permission(request, obj)
        return may and (not is_guarded or request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, user: User, form: Any, change: bool) -> None:
        super().save_model(request, user, form, change)
        Profile.objects.get_or_create(user=user)

    @admin.action(description="Suspend: sessions and keys stop at once", permissions=["change"])
    def suspend(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._set_active(request, queryset.exclude(email=request.user.get_username()), False)

    @admin.action(description="Let back in", permissions=["change"])
    def reinstate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._set_active(request, queryset, True)

    def _set_active(self, request: HttpRequest, queryset: QuerySet[User], is_active: bool) -> None:
        users = [user for user in queryset if self.has_change_permission(request, user)]
        User.objects.filter(pk__in=[user.pk for user in users]).update(is_active=is_active)
        for user in users:
            self.log_change(request, user, "Let back in" if is_active else "Suspended")
        self.message_user(
            request, f"{len(users)} accounts {'let back in' if is_active else 'suspended'}.", messages.SUCCESS
        )


class GrantForm(forms.ModelForm):
    def clean_expires_at(self) -> Any:
        expires_at, now = self.cleaned_data["expires_at"], clock.now()
        if not now < expires_at <= now + LONGEST + timedelta(minutes=1):
            raise forms.ValidationError(f"Give an end in the future, at most {LONGEST.days} days away.")
        return expires_at


@admin.register(SupportGrant)
class SupportGrantAdmin(AppendOnlyAdmin):
    """Staff give leave to themselves, and say why: the brand reads it in its log."""

    form = GrantForm
    fields = ["brand", "reason", "expires_at"]
    list_display = ["brand", "staff", "reason", "created_at", "expires_at", "revoked_at"]
    list_filter = [("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand", "staff"]
    list_per_page = 50
    search_fields = ["reason", "staff__email"]
    autocomplete_fields = ["brand"]
    ordering = ["-created_at"]
    actions = ["end"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return ["brand", "reason", "expires_at", *(["staff", "created_at", "revoked_at"] if obj else [])]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"expires_at": clock.now() + timedelta(days=1), **super().get_changeform_initial_data(request)}

    def save_model(self, request: HttpRequest, grant: SupportGrant, form: Any, change: bool) -> None:
        grant.staff = request.user  # type: ignore[assignment]
        super().save_model(request, grant, form, change)

    @admin.action(description="End now", permissions=["view"])
    def end(self, request: HttpRequest, queryset: QuerySet[SupportGrant]) -> None:
        ended = list(queryset.filter(revoked_at=None))
        SupportGrant.objects.filter(pk__in=[grant.pk for grant in ended]).update(revoked_at=clock.now())
        for grant in ended:
            self.log_change(request, grant, "Ended")
        self.message_user(request, f"{len(ended)} grants ended.", messages.SUCCESS)
