"""Sign-up: account, membership and plan in one transaction, so that nobody is ever half a member."""

import logging
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from allauth.core.internal.httpkit import is_headless_request
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.http import HttpResponse
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from accounts import brands, confirming, preferences, visitors
from accounts.access import BrandRequest
from accounts.models import Brand, Invitation, Membership, Profile, User
from chatsite import sign_in_ways
from chatsite.members import inviting
from chatsite.members.joining import join_oneself
from conversations.chats import pending
from events import mail
from events.models import EmailLog
from lib import clock
from lib.db import SERVICE, scope
from lib.errors import Conflict
from lib.ids import first_at

MOST_IN_AN_HOUR = 10  # mails that anybody can have sent to one address: confirm it, reset the password
log = logging.getLogger(__name__)


class Elsewhere(DefaultSocialAccountAdapter):
    """Signing up with an account at Google or GitHub. It never opens an account that is here already: whoever has one
    signs in to it and connects the two on the settings page (A-03, A-11).
    """

    def save_user(self, request: BrandRequest, sociallogin: Any, form: Any = None) -> User:
        user: User = sociallogin.user
        if form:
            user.email = form.cleaned_data["email"]
        user.set_unusable_password()
        admit(request, user)
        sociallogin.save(request)
        return user


class Adapter(DefaultAccountAdapter):
    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "email_taken": "There is an account with this address, here or on another of our sites. Sign in with it.",
    }

    def is_open_for_signup(self, request: BrandRequest) -> bool:
        return request.brand.open_sign_up or invitation_of(request) is not None

    def clean_email(self, email: str) -> str:
        """Where one needs an invitation, the account is for the address that was invited."""
        email = super().clean_email(email)
        request = self.request
        if request.resolver_match.url_name == "account_signup" and not request.brand.open_sign_up:
            invitation = invitation_of(request)
            if invitation is None or invitation.email != email.lower():
                raise ValidationError(_("Your invitation is for another address: sign up with the one it was sent to."))
        return email

    def pre_login(self, request: BrandRequest, user: User, **flow: Any) -> HttpResponse | None:
        """Whoever came by an invitation reads the mailbox that it was sent to: nothing is left to be confirmed."""
        if proved := getattr(request, "proved_address", ""):
            confirmed = {"verified": True, "primary": True}
            EmailAddress.objects.update_or_create(user_id=user.pk, email=proved, defaults=confirmed)
        response: HttpResponse | None = super().pre_login(request, user, **flow)
        return response

    def save_user(self, request: BrandRequest, user: User, form: Any, commit: bool = True) -> User:
        user = super().save_user(request, user, form, commit=False)
        admit(request, user)
        return user

    def get_login_redirect_url(self, request: BrandRequest) -> str:
        """Who was here as a visitor, or wrote something that waits, goes on with that."""
        user_id = cast(User, request.user).pk
        if visitors.has_cookie(request) or pending.is_to_send(request.brand.pk, user_id):
            return reverse("conversations:welcome")
        return super().get_login_redirect_url(request)

    get_signup_redirect_url = get_login_redirect_url

    def is_reauthentication_required(self, *, app: str, **flow: Any) -> bool:
        """Ours decides, also for who has no password and no second step, whom allauth would let through."""
        confirming.require(self.request)
        return False

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        ways: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        if ways or not user.is_authenticated:
            return ways
        return [{"id": "mail_code", "description": _("Use a code by mail"), "url": reverse("confirm-by-mail")}]

    def get_email_confirmation_url(self, request: BrandRequest, emailconfirmation: Any) -> str:
        """The link says whose chats go over with it, because it may be opened on another device."""
        link = super().get_email_confirmation_url(request, emailconfirmation)
        visitor_id = visitors.of_request(request)
        if visitor_id is None:
            return link
        who = [str(visitor_id), str(emailconfirmation.email_address.user_id)]
        return f"{link}?{urlencode({'visitor': signing.dumps(who, salt=_salt(request.brand))})}"

    def confirm_email(self, request: BrandRequest, email_address: EmailAddress) -> bool:
        is_confirmed = super().confirm_email(request, email_address)
        told = request.POST.get("visitor") or request.GET.get("visitor")
        if is_confirmed and told:
            _adopt_by_link(request.brand, email_address.user_id, told)
        return is_confirmed

    def post_login(self, request: BrandRequest, user: User, **flow: Any) -> HttpResponse:
        """This browser learns how its person wants the product, and its session is written down."""
        response: HttpResponse = super().post_login(request, user, **flow)
        if is_headless_request(request):  # an app keeps no cookies
            return response
        with scope(SERVICE):
            profile = Profile.objects.filter(user=user).first()
        if profile:
            preferences.mirror(response, preferences.of_profile(profile))
        sign_in_ways.saw(request, response)
        return response

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """All that the mail says comes from its links, so nothing of it is kept in the log but its address.

        Whoever asks for it may be anybody, so nobody gets more of these than MOST_IN_AN_HOUR, whatever addresses and
        brands they are asked from. What is asked beyond is silently not sent: the links that arrived still work.
        """
        brand = brands.by_host(self.request.get_host())  # no link ever leads to a host that is no brand's
        if _mailed_of_late(email) >= MOST_IN_AN_HOUR:
            log.warning("a mail was asked for too often", extra={"task": template_prefix.rpartition("/")[2]})
            return
        links = {name: str(value) for name, value in context.items() if isinstance(value, str)}
        links["password_reset_url"] = links.get("password_reset_url") or self.request.build_absolute_uri(
            reverse("account_reset_password")
        )
        links["login_url"] = self.request.build_absolute_uri(reverse("account_login"))
        user = context.get("user")
        mail.send(brand.pk, email, template_prefix, {"email": email}, secrets=links, user_id=user.pk if user else None)


def _adopt_by_link(brand: Brand, user_id: UUID, told: str) -> None:
    """Give the account what its visitor did in the browser in which it was made. A link that was changed gives nothing."""
    try:
        visitor_id, for_user = signing.loads(told, salt=_salt(brand), max_age=visitors.KNOWN_FOR)
    except signing.BadSignature:
        return
    with scope(SERVICE):
        is_member = Membership.objects.filter(brand=brand, user_id=user_id, suspended_at=None).exists()
    if is_member and for_user == str(user_id):
        pending.adopt(brand.pk, UUID(visitor_id), user_id)


def _salt(brand: Brand) -> str:
    return f"chatsite.signup.{brand.pk.hex}"


def admit(request: BrandRequest, user: User) -> None:
    """Store a new person, with a profile in the language they read, as a member of the brand they came to."""
    user.email = user.email.lower()
    try:
        with scope(SERVICE):
            user.save()
            Profile.objects.create(user=user, language=preferences.language(request))
            invitation = invitation_of(request)
            if invitation and invitation.email == user.email:
                inviting.accept(request.brand, invitation.token_hash, user)
                request.proved_address = user.email  # type: ignore[attr-defined]
            elif request.brand.open_sign_up:
                join_oneself(request.brand, user)
            else:
                raise inviting.OtherAddress
    except IntegrityError as error:
        if "accounts_user_email" not in str(error):
            raise
        # The same address a moment ago: a double click.
        raise Conflict(_("This sign-up is being worked on already. Check your mail, or sign in.")) from None


def invitation_of(request: BrandRequest) -> Invitation | None:
    """What this browser was invited by, while that can be used."""
    token_hash = request.session.get(inviting.SESSION, "")
    if not token_hash:
        return None
    with scope(SERVICE):
        return inviting.find(request.brand, token_hash)


def _mailed_of_late(email: str) -> int:
    with scope(SERVICE):
        of_late = EmailLog.objects.filter(pk__gte=first_at(clock.now() - timedelta(hours=1)))
        return of_late.filter(to_email__iexact=email, template_id__startswith="account/").count()
