"""People, brands, and what proves who is asking."""

from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from lib.db import SERVICE, scope
from lib.ids import uuid7
from lib.zones import is_zone


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        with scope(SERVICE):  # nobody else may say who is staff
            return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """One account per person, on however many brands. Outside the walls, so it holds no personal data but the address."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(unique=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    date_joined = models.DateTimeField(auto_now_add=True)

    objects = UserManager()

    USERNAME_FIELD = EMAIL_FIELD = "email"

    def __str__(self) -> str:
        return self.email

    @property
    def initials(self) -> str:
        return self.email[:2].upper()


class Brand(models.Model):
    """A customer of ours with a look, members and settings of its own. Readable by everybody: nothing secret stands here."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    domain = models.CharField(max_length=253, unique=True, help_text="Host name without port: chat.example.com")
    zone = models.CharField(max_length=64, default="UTC", validators=[is_zone], help_text="IANA name: Europe/Amsterdam")
    hue = models.PositiveSmallIntegerField(default=162, validators=[MaxValueValidator(360)])
    chroma = models.DecimalField(
        max_digits=4, decimal_places=3, default="0.105", validators=[MinValueValidator(0), MaxValueValidator(0.15)]
    )
    roundness = models.DecimalField(
        max_digits=2, decimal_places=1, default=1, validators=[MinValueValidator(0), MaxValueValidator(1.5)]
    )
    is_active = models.BooleanField(default=True)
    open_sign_up = models.BooleanField(default=True, help_text="Off: members join by invitation only.")
    shared_history = models.BooleanField(default=False, help_text="Every member may read every conversation.")
    anonymous_allowance = models.PositiveSmallIntegerField(
        default=3, help_text="Questions a visitor may ask without an account, in all. 0: nobody asks without one."
    )
    anonymous_per_network = models.PositiveIntegerField(
        default=30,
        db_default=30,
        help_text="Questions a day that all visitors of one network (IPv4 /24, IPv6 /48) may ask together.",
    )
    anonymous_per_day = models.PositiveIntegerField(
        default=1000, db_default=1000, help_text="Questions a day that all visitors of this brand may ask together."
    )
    retention_days = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: as long as the plan says.")
    sharing_on = models.BooleanField(
        default=True,
        db_default=True,
        help_text="Members may share a chat by a link. Off: all links are closed at once.",
    )
    mail_tracking = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Note which mails are opened and whose links are followed. Never of mails about signing in.",
    )
    default_plan = models.CharField(max_length=40, blank=True, help_text="Code of the plan a new member gets.")
    withheld_models = ArrayField(
        models.UUIDField(), default=list, db_default=[], blank=True, editable=False
    )  # AIProvider
    # As billing says whenever that changes; no other app has to know what a plan is.
    sold_plans = ArrayField(models.CharField(max_length=40), default=list, db_default=[], editable=False)  # codes
    sold_packs = ArrayField(models.CharField(max_length=20), default=list, db_default=[], editable=False)  # meters
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class BrandOwned(models.Model):
    """A row of one brand. It carries `brand` itself, so that the database can judge it without a join."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    brand = models.ForeignKey(Brand, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True


class Owned(BrandOwned):
    """A row of one person on one brand: `owner_id` is a user's or a visitor's id."""

    owner_id = models.UUIDField()

    class Meta:
        abstract = True


class Profile(models.Model):
    """What a person tells of themselves, behind the walls: nobody reads another's."""

    class Theme(models.TextChoices):
        LIGHT = "light"
        DARK = "dark"

    class Announce(models.TextChoices):
        """What a screen reader says when an answer is there."""

        FULL = "full"
        FIRST = "first"
        END = "end"

    user = models.OneToOneField(User, models.CASCADE, primary_key=True)
    full_name = models.CharField(max_length=120, blank=True)
    company_name = models.CharField(max_length=120, blank=True)
    phone = models.CharField(max_length=40, blank=True)
    avatar_url = models.CharField(max_length=500, blank=True)  # a path of this site, the same on every brand
    avatar_key = models.CharField(max_length=200, blank=True, default="", db_default="")  # where lib.files keeps it
    # How this person wants the product; cookies mirror it (accounts.preferences), so that no request has to ask.
    language = models.CharField(max_length=10, blank=True, default="", db_default="")  # "" = the browser's
    zone = models.CharField(
        max_length=64, blank=True, default="", db_default="", validators=[is_zone]
    )  # "" = the brand's
    theme = models.CharField(max_length=10, choices=Theme, blank=True, default="", db_default="")  # "" = the system's
    enter_sends = models.BooleanField(default=True, db_default=True)
    shortcuts_on = models.BooleanField(default=True, db_default=True)
    announce = models.CharField(max_length=10, choices=Announce, default=Announce.FULL, db_default=Announce.FULL.value)

    def __str__(self) -> str:
        return self.full_name or str(self.user_id)

    @property
    def initials(self) -> str:
        return "".join(word[0] for word in self.full_name.split()[:2]).upper() or "?"


class Membership(BrandOwned):
    class Role(models.TextChoices):
        OWNER = "owner"
        ADMIN = "admin"
        MEMBER = "member"

    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    # As the plan says whenever that changes (quotas.entitle): calls of keys and questions together; null = no limit.
    rate_limit_per_minute = models.PositiveIntegerField(null=True, blank=True)
    suspended_at = models.DateTimeField(null=True, blank=True)  # standing is gone until this is null again

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["brand", "user"], name="one_membership_per_brand"),
            models.CheckConstraint(condition=Q(role__in=["owner", "admin", "member"]), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} is {self.role}"


class Invitation(BrandOwned):
    """A mail that lets one address join; the token is stored hashed and works once."""

    email = models.EmailField()
    role = models.CharField(max_length=10, choices=Membership.Role, default=Membership.Role.MEMBER)
    token_hash = models.CharField(max_length=64, unique=True)
    invited_by = models.ForeignKey(User, models.CASCADE, related_name="+")
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["brand", "email"], condition=Q(accepted_at=None), name="one_open_invitation_per_address"
            )
        ]

    def __str__(self) -> str:
        return self.email


class Visitor(BrandOwned):
    """Somebody without an account: a first question on the landing page, or an agent's widget on another site."""

    agent_id = models.UUIDField(null=True, blank=True)
    name = models.CharField(max_length=120, blank=True)
    email = models.EmailField(blank=True)
    phone = models.CharField(max_length=40, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name or str(self.pk)


class ApiKey(BrandOwned):
    """A key of one person on one brand (S3 `api_keys`). The text is shown once; here stand its prefix and its SHA-256.

    One that is the brand's (`is_brands`) was made by an admin, works for as long as that person is one, and has the brand's
    pool pay. A key that renews another is of its family, and their calls count in one limit.
    """

    user = models.ForeignKey(User, models.CASCADE, related_name="api_keys")
    agent_id = models.UUIDField(null=True, blank=True, help_text="Works for this agent only.")
    is_brands = models.BooleanField("the brand's", default=False, db_default=False)
    family_id = models.UUIDField(null=True, blank=True, editable=False)  # the first key's; null: it is the first
    name = models.CharField(max_length=80)
    key_prefix = models.CharField(max_length=16, unique=True)
    key_hash = models.CharField(max_length=64)
    scopes = ArrayField(models.CharField(max_length=40), default=list)
    allowed_models = ArrayField(
        models.CharField(max_length=80),
        default=list,
        db_default=[],
        blank=True,
        help_text="Models that may be asked; empty = all.",
    )
    rate_limit_per_minute = models.PositiveIntegerField(default=60)
    rate_limit_per_day = models.PositiveIntegerField(default=10_000)
    is_active = models.BooleanField(default=True)
    # Counted in Redis and added here once a minute (accounts.limits), each batch once: a busy key is no hot row.
    total_requests = models.PositiveBigIntegerField(default=0)
    last_used_at = models.DateTimeField(null=True, blank=True)
    folded_as = models.UUIDField(null=True, blank=True, editable=False)  # the batch that was added last
    expires_at = models.DateTimeField(null=True, blank=True)
    # Made for a day at most, to try something: nobody looks for it later. One that was ended early is not.
    is_short_lived = models.BooleanField(default=False, db_default=False, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} (sk_{self.key_prefix}_…)"


class SupportGrant(BrandOwned):
    """Leave for one member of staff to read a brand's content, for a reason and for a while."""

    staff = models.ForeignKey(User, models.CASCADE, related_name="support_grants")
    reason = models.CharField(max_length=300)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.brand}: {self.reason}"


class IdempotencyRecord(Owned):
    """The first answer to (owner, route, key), kept for 24 h. `status` is null while the first request still runs."""

    route = models.CharField(max_length=80)
    key = models.CharField(max_length=255)
    request_hash = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["brand", "owner_id", "route", "key"], name="one_answer_per_idempotency_key")
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotency_by_age")]

    def __str__(self) -> str:
        return f"{self.route} {self.key}"
