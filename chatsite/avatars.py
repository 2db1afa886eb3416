"""A person's picture: taken in as PNG, JPEG or WebP, drawn anew as a small WebP without anything else in it, and shown by
an address that nobody guesses, without a look at who asks.
"""

import io
import re
import struct
from typing import IO
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe
from PIL import Image, ImageOps

from accounts.access import BrandRequest, brand_member, public
from accounts.models import Profile
from lib import files
from lib.db import Principal, on_commit
from lib.errors import Invalid, NotFound

MOST_BYTES = 2 * 1024 * 1024
MOST_PIXELS = 16_000_000  # 64 MB while it is drawn, whatever the file says of itself
SIDE = 256
NAME = re.compile(r"[0-9a-f]{32}")


class BadPicture(Invalid):
    """This is no picture that we take. Your picture stays as it was."""

    status, code = 422, "bad_picture"


def drawn(file: IO[bytes]) -> bytes:
    """The picture as a WebP of 256 pixels, cut to a square, without metadata. Raises BadPicture (F-16, F-17)"""
    try:
        with Image.open(file, formats=["PNG", "JPEG", "WEBP"]) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise BadPicture(_("This picture has more than 16 million pixels. Make it smaller and try again."))
            picture.draft("RGB", (2 * SIDE, 2 * SIDE))  # a large JPEG is read small
            upright = ImageOps.exif_transpose(picture).convert("RGBA")
    except BadPicture:
        raise
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise BadPicture(_("This is no picture that we can read. Take a PNG, JPEG or WebP; no SVG.")) from error
    made = io.BytesIO()
    ImageOps.fit(upright, (SIDE, SIDE)).save(made, "WEBP", quality=85)
    return made.getvalue()


@brand_member
@require_POST
def change(request: BrandRequest) -> HttpResponse:
    """Take a new picture in, or forget the one there is."""
    principal = request.principal
    profile, _is_new = Profile.objects.get_or_create(user_id=principal.owner_id)
    if "remove" in request.POST:
        _keep(principal, profile, "")
        messages.success(request, _("Your picture is gone."))
    else:
        sent = request.FILES.get("picture")
        if sent is None:
            raise BadPicture(_("Choose a picture first."))
        if (sent.size or 0) > MOST_BYTES:
            raise BadPicture(_("This picture is larger than 2 MB. Make it smaller and try again."))
        _keep(principal, profile, files.save(principal.brand_id, "avatar", "picture.webp", drawn(sent)))
        messages.success(request, _("This is your picture now."))
    return HttpResponseRedirect(f"{reverse('settings')}#profile", status=303)


def _keep(principal: Principal, profile: Profile, key: str) -> None:
    brand, _kind, name = key.split("/") if key else ("", "", "")
    address = reverse("avatar", args=[brand, name.partition(".")[0]]) if key else ""
    forget_file(profile.avatar_key)
    Profile.objects.filter(pk=profile.pk).update(avatar_key=key, avatar_url=address)


def forget_file(key: str) -> None:
    """Delete the bytes once the open transaction has committed."""
    if key:
        brand = UUID(key.partition("/")[0])
        on_commit(lambda: files.delete(key, brand_id=brand))


@public("whoever was shown the address of a picture may see it; nobody can guess one")
@require_safe
def show(request: HttpRequest, brand_id: UUID, name: str) -> HttpResponse:
    """The picture, for ever the same at this address."""
    if not NAME.fullmatch(name):
        raise NotFound(_("There is no picture here."))
    with files.open(f"{brand_id}/avatar/{name}.webp", brand_id=brand_id) as file:
        response = HttpResponse(file.read(), content_type="image/webp")
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response
