"""A column that only its own row opens: AES-256-GCM, bound to the row, its owner and its brand.

    secret = SealedTextField(bind=("pk", "brand_id", "owner_id"))

Assign a text or a Secret; what is read is a Secret, opened at that moment. Between two reads the model holds the sealed
envelope alone, so lists, pickles and error reports have nothing to show. The database has
`0x01 | length of key id | key id | IV (12) | ciphertext | tag (16)`; S1's IV and tag are Sealed.iv and Sealed.tag.
"""

import os
from collections.abc import Iterable
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.exceptions import FieldError
from django.db import models
from django.db.models.query_utils import DeferredAttribute
from django.utils.translation import gettext_lazy
from django_cryptography.fields import EncryptedMixin

from lib.errors import DomainError, Unavailable
from lib.keyring import KeyRing
from lib.secret import Secret

VERSION = 1
IV_BYTES, TAG_BYTES = 12, 16


class CannotSeal(Unavailable):
    says = gettext_lazy(
        "Keys cannot be stored here yet: whoever runs this site has not set ENCRYPTION_KEYS. Nothing was stored."
    )
    code = "no_encryption_key"


class CannotOpen(DomainError):
    says = gettext_lazy("A stored key cannot be opened, so it was not used and nothing was charged. Store it again.")
    status, code = 500, "cannot_open"


class Sealed:
    """An envelope as it stands in the database. It says who sealed it, and nothing of what is inside."""

    __slots__ = ("envelope",)

    def __init__(self, envelope: bytes) -> None:
        self.envelope = envelope

    @property
    def _end_of_header(self) -> int:
        return 2 + self.envelope[1] if len(self.envelope) > 1 else 2

    @property
    def header(self) -> bytes:
        return self.envelope[: self._end_of_header]

    @property
    def key_id(self) -> str:
        return self.header[2:].decode("ascii", "replace")

    @property
    def iv(self) -> bytes:
        return self.envelope[self._end_of_header : self._end_of_header + IV_BYTES]

    @property
    def ciphertext(self) -> bytes:
        return self.envelope[self._end_of_header + IV_BYTES : -TAG_BYTES]

    @property
    def tag(self) -> bytes:
        return self.envelope[-TAG_BYTES:]

    def __repr__(self) -> str:
        return "Sealed(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and self.envelope == other.envelope

    def __hash__(self) -> int:
        return hash(self.envelope)


def seal(secret: Secret, bound_to: bytes) -> Sealed:
    """Sealed with the ring's first key and a new IV. Raises CannotSeal without a ring."""
    ring: KeyRing = settings.ENCRYPTION_KEYS
    key = ring.key(ring.sealing_id)
    if key is None:
        raise CannotSeal()
    header = bytes((VERSION, len(ring.sealing_id))) + ring.sealing_id.encode()
    iv = os.urandom(IV_BYTES)
    return Sealed(header + iv + AESGCM(key).encrypt(iv, secret.reveal().encode(), header + bound_to))


def unseal(sealed: Sealed, bound_to: bytes) -> Secret:
    """Raises CannotOpen: its key is gone from the ring, or it was changed, or it is another row's."""
    key = settings.ENCRYPTION_KEYS.key(sealed.key_id)
    if key is None or sealed.envelope[0] != VERSION or len(sealed.envelope) < len(sealed.header) + IV_BYTES + TAG_BYTES:
        raise CannotOpen()
    try:
        text = AESGCM(key).decrypt(sealed.iv, sealed.ciphertext + sealed.tag, sealed.header + bound_to)
    except InvalidTag:
        raise CannotOpen() from None
    return Secret(text.decode())


class _Opening(DeferredAttribute):
    """Reading opens, and keeps nothing open."""

    field: "SealedMixin"

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        held = super().__get__(instance, cls)
        return self.field.unseal(held, instance) if isinstance(held, Sealed) else held

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.field.attname] = Secret(value) if isinstance(value, str) else value


class SealedMixin(EncryptedMixin):
    """The package gives the column and keeps look-ups away; what stands in it, and how it is read, is ours.

    bind  names of the row's attributes that its envelope is valid for; they are known before the first save
    """

    descriptor_class = _Opening

    def __init__(self, *args: Any, bind: Iterable[str] = ("pk",), **kwargs: Any) -> None:
        self.bind = tuple(bind)
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "bind": self.bind}

    def clone(self) -> Self:
        _, _, args, kwargs = self.deconstruct()
        same: Any = type(self)
        return same(*args, **kwargs)

    def bound_to(self, instance: models.Model) -> bytes:
        values = (str(getattr(instance, name)) for name in self.bind)
        return "|".join([instance._meta.label_lower, self.attname, *values]).encode()

    def seal(self, secret: Secret, instance: models.Model) -> Sealed:
        return seal(secret, self.bound_to(instance))

    def unseal(self, sealed: Sealed, instance: models.Model) -> Secret:
        return unseal(sealed, self.bound_to(instance))

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        held = model_instance.__dict__.get(self.attname)
        if isinstance(held, Secret):
            held = model_instance.__dict__[self.attname] = self.seal(held, model_instance)
        return held

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if value is not None and not isinstance(value, Sealed):
            raise FieldError(f"{self.name} is sealed for one row: assign it to that row and save it.")
        return value and connection.Database.Binary(value.envelope)

    def from_db_value(self, value: Any, *args: Any, **kwargs: Any) -> Sealed | None:
        return None if value is None else Sealed(bytes(value))

    def to_python(self, value: Any) -> Any:
        return value

    def clean(self, value: Any, model_instance: Any) -> Any:
        super().clean(value, model_instance)
        return model_instance.__dict__[self.attname]  # as it was: a look at it must not leave it open

    def value_from_object(self, obj: models.Model) -> Any:
        return obj.__dict__.get(self.attname)  # what it is read for may print it

    def value_to_string(self, obj: models.Model) -> str:
        raise TypeError(f"{self.name} is sealed, so it is in no export.")

    def formfield(self, **kwargs: Any) -> None:
        return None  # no form shows it, the admin's neither


class SealedTextField(SealedMixin, models.TextField):
    base_class, wasinstance = models.TextField, True
    _pyi_private_set_type: Any  # for the type checker: a text, a Secret or an envelope is assigned,
    _pyi_private_get_type: Any  # and a Secret is read
