"""Find brands and people by the names that operators type."""

from accounts.models import Brand, Membership, User
from lib.errors import NotFound


def brand_named(slug: str) -> Brand:
    try:
        return Brand.objects.get(slug=slug)
    except Brand.DoesNotExist:
        known = ", ".join(Brand.objects.values_list("slug", flat=True)[:20]) or "none yet"
        raise NotFound(f"There is no brand {slug}. There are: {known}.") from None


def member_named(brand: Brand, email: str) -> User:
    """The member of `brand` with this address. In the service scope."""
    user = User.objects.filter(email=email.lower()).first()
    if user is None or not Membership.objects.filter(brand=brand, user=user).exists():
        raise NotFound(f"{email} is not a member of {brand.name}.")
    return user
