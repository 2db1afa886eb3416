"""The sealed column: who opens what, and what is left of a key wherever a row is shown."""

import copy
import pickle
import secrets
from uuid import uuid4

import pytest
from django.core import serializers
from django.core.exceptions import FieldError
from django.db import connections
from django.forms import model_to_dict, modelform_factory

from lib.db import SERVICE, scope
from lib.keyring import BadKeys, KeyRing
from lib.sealed import CannotOpen, CannotSeal, Sealed, seal, unseal
from lib.secret import Secret
from providers.models import ProviderKey

KEY = "sk-canary-4c1f9e7a2b"


def ring(*ids):
    return KeyRing.parse(",".join(f"{key_id}:{secrets.token_hex(32)}" for key_id in ids))


@pytest.fixture
def as_service(db):
    with scope(SERVICE):
        yield


def make_key(brand, user, vendor="openai", text=KEY):
    return ProviderKey.objects.create(
        brand=brand, owner_id=user.pk, vendor=vendor, secret=text, last_four=text[-4:], status="valid"
    )


def envelope(row):
    return ProviderKey.objects.get(pk=row.pk).__dict__["secret"].envelope


def write(row, stored):
    with connections["service"].cursor() as cursor:
        cursor.execute("update providers_providerkey set secret = %s where id = %s", [stored, row.pk])


# The ring


def test_the_first_key_seals_and_all_of_them_open():
    text = f"b:{'b' * 64}, a:{'a' * 64}"

    keys = KeyRing.parse(text, "C" * 64)

    assert (keys.sealing_id, list(keys)) == ("b", ["b", "a", "0"])
    assert keys.key("0") == bytes.fromhex("cc" * 32)
    assert KeyRing.parse("", "c" * 64).sealing_id == "0"
    assert not KeyRing.parse("", "")


@pytest.mark.parametrize(
    ("named", "bare"),
    [("a:xyz", ""), ("a" * 64, ""), (":" + "a" * 64, ""), ("a:" + "a" * 62, ""), ("a b:" + "a" * 64, ""), ("", "short"),
     ("a:" + "a" * 64 + ",a:" + "b" * 64, ""), ("0:" + "a" * 64, "b" * 64), ("é:" + "a" * 64, "")],
)  # fmt: skip
def test_a_ring_that_cannot_be_read_is_refused_without_saying_what_stands_there(named, bare):
    with pytest.raises(BadKeys) as refused:
        KeyRing.parse(named, bare)

    assert "aaaa" not in str(refused.value)
    assert "short" not in str(refused.value)


def test_a_ring_shows_names_only_and_cannot_be_pickled():
    keys = KeyRing.parse(f"a:{'a' * 64}")

    assert repr(keys) == "KeyRing(a)"
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copied(keys)


# The envelope


def test_no_two_envelopes_share_an_iv(settings):
    """A-15."""
    settings.ENCRYPTION_KEYS = ring("a")

    sealed = [seal(Secret(KEY), b"row") for _ in range(5000)]

    assert len({one.iv for one in sealed}) == len({one.ciphertext for one in sealed}) == 5000
    assert {len(one.iv) for one in sealed} == {12}
    assert {len(one.tag) for one in sealed} == {16}
    assert {one.key_id for one in sealed} == {"a"}


def test_every_bit_of_an_envelope_is_proved(settings):
    """A-15: version, key id, IV, text and tag; a shorter and a longer one too."""
    settings.ENCRYPTION_KEYS = KeyRing.parse(f"a:{'a' * 64},c:{'a' * 64}")  # 'a' with one bit changed is 'c' here
    whole = seal(Secret(KEY), b"row").envelope

    for position in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(CannotOpen):
            unseal(Sealed(bytes(changed)), b"row")
    for length in range(len(whole)):
        with pytest.raises(CannotOpen):
            unseal(Sealed(whole[:length]), b"row")
    with pytest.raises(CannotOpen):
        unseal(Sealed(whole + b"\0"), b"row")
    with pytest.raises(CannotOpen):
        unseal(Sealed(whole), b"another row")
    assert unseal(Sealed(whole), b"row").reveal() == KEY


def test_without_its_key_nothing_opens_and_without_a_ring_nothing_is_sealed(settings):
    settings.ENCRYPTION_KEYS = ring("a")
    sealed = seal(Secret(KEY), b"row")

    settings.ENCRYPTION_KEYS = ring("b")
    with pytest.raises(CannotOpen):
        unseal(sealed, b"row")
    settings.ENCRYPTION_KEYS = ring("a")  # another key of the same name
    with pytest.raises(CannotOpen):
        unseal(sealed, b"row")
    settings.ENCRYPTION_KEYS = KeyRing.parse("", "")
    with pytest.raises(CannotSeal):
        seal(Secret(KEY), b"row")


# The column


def test_a_key_comes_back_from_its_row_and_stands_there_sealed(world, as_service):
    row = make_key(world.act, world.alice)

    stored = ProviderKey.objects.get(pk=row.pk)

    assert stored.secret.reveal() == row.secret.reveal() == KEY
    assert KEY.encode() not in envelope(row)
    assert stored.key_id == row.key_id == stored.__dict__["secret"].key_id == "dev"


@pytest.mark.parametrize("moved", ["row", "owner", "brand", "vendor"])
def test_an_envelope_opens_in_its_own_row_only(world, as_service, moved):
    """A-15: moved to another row, or the row given to another owner, brand or vendor."""
    mine, other = make_key(world.act, world.alice), make_key(world.act, world.bob)
    if moved == "row":
        write(other, envelope(mine))
        stored = ProviderKey.objects.get(pk=other.pk)
    else:
        changes = {"owner": {"owner_id": uuid4()}, "brand": {"brand": world.globex}, "vendor": {"vendor": "openrouter"}}
        ProviderKey.objects.filter(pk=mine.pk).update(**changes[moved])
        stored = ProviderKey.objects.get(pk=mine.pk)

    with pytest.raises(CannotOpen):
        _ = stored.secret


def test_a_row_that_is_saved_again_keeps_its_envelope_and_a_new_key_gets_a_new_one(world, as_service):
    row = make_key(world.act, world.alice)
    before = envelope(row)

    row.is_used = False
    row.save()
    assert envelope(row) == before

    row.secret = row.secret
    row.save(update_fields=["secret"])
    assert envelope(row) != before
    assert ProviderKey.objects.get(pk=row.pk).secret.reveal() == KEY


def test_many_at_once_are_sealed_each_for_itself(world, as_service):
    rows = [
        ProviderKey(brand=world.act, owner_id=uuid4(), vendor="openai", secret=f"{KEY}-{n}", status="valid")
        for n in range(3)
    ]

    ProviderKey.objects.bulk_create(rows)

    assert [ProviderKey.objects.get(pk=row.pk).secret.reveal() for row in rows] == [f"{KEY}-{n}" for n in range(3)]


def test_a_column_that_was_left_out_is_fetched_and_opened(world, as_service):
    row = make_key(world.act, world.alice)

    assert ProviderKey.objects.defer("secret").get(pk=row.pk).secret.reveal() == KEY
    assert "secret" not in ProviderKey.objects.only("last_four").get(pk=row.pk).__dict__


def test_what_knows_no_row_can_neither_write_nor_look_for_a_key(world, as_service):
    row = make_key(world.act, world.alice)

    for refused in (
        lambda: ProviderKey.objects.update(secret=KEY),
        lambda: ProviderKey.objects.update(secret=Secret(KEY)),
        lambda: ProviderKey.objects.bulk_update([row], ["secret"]),
        lambda: list(ProviderKey.objects.filter(secret=KEY)),
        lambda: list(ProviderKey.objects.filter(secret__contains=KEY)),
        lambda: list(ProviderKey.objects.filter(secret__in=[KEY])),
    ):
        with pytest.raises(FieldError):
            refused()


def test_nothing_that_shows_or_copies_a_row_holds_its_key(world, as_service):
    """A-16."""
    row = make_key(world.act, world.alice)
    fetched = ProviderKey.objects.get(pk=row.pk)
    fetched.full_clean(exclude=["checked_at", "last_used_at"])  # leaves it as it is
    shown = [
        repr(row),
        str(row),
        repr(vars(row)),
        repr(vars(fetched)),
        repr(model_to_dict(fetched)),
        f"{fetched.secret}",
    ]
    shown += [repr(list(ProviderKey.objects.values())), repr(list(ProviderKey.objects.values_list("secret")))]
    copies = [pickle.dumps(row), pickle.dumps(fetched), pickle.dumps(list(ProviderKey.objects.all()))]

    assert not [text for text in shown if KEY in text or "canary" in text]
    assert not [data for data in copies if b"canary" in data]
    assert pickle.loads(copies[0]).secret.reveal() == KEY  # an envelope travels; who has the ring opens it
    with pytest.raises(TypeError):  # one that was not saved yet is open, and goes nowhere
        pickle.dumps(ProviderKey(secret=KEY))
    with pytest.raises(TypeError):
        serializers.serialize("json", [fetched])
    assert "secret" not in modelform_factory(ProviderKey, exclude=[]).base_fields
    fetched.refresh_from_db()
    assert fetched.secret.reveal() == KEY


def test_the_migration_that_made_it_is_the_whole_of_it():
    """The package's own clone() would lose what the column is bound to."""
    field = ProviderKey._meta.get_field("secret")

    _, path, args, kwargs = field.deconstruct()

    assert (path, args, kwargs) == (
        "lib.sealed.SealedTextField",
        [],
        {"bind": ("pk", "brand_id", "owner_id", "vendor")},
    )
    assert field.clone().bind == field.bind
