"""Keys of the ring follow one another without a pause: reencrypt_keys."""

import json
import os
import secrets
import subprocess
import sys
import threading
from io import StringIO

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from allauth.mfa.utils import decrypt
from django.conf import settings as product
from django.core.management import CommandError, call_command
from django.db import connections

from lib.db import SERVICE, Principal, close_all, scope
from lib.ids import uuid7
from lib.keyring import KeyRing
from lib.sealed import CannotOpen
from lib.secret import Secret
from providers import own_keys, resealing
from providers.models import ProviderKey
from providers.vendors import VENDORS

OLD, NEW = (secrets.token_hex(32) for _ in range(2))
BOTH = f"new:{NEW},old:{OLD}"
OPENAI = VENDORS["openai"]
SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture
def ring(settings):
    def use(text):
        settings.ENCRYPTION_KEYS = KeyRing.parse(text)

    use(f"old:{OLD}")
    return use


def fill(world, number):
    """So many members' keys; the last characters say whose."""
    owners = [uuid7() for _ in range(number)]
    with scope(SERVICE):
        for at, owner in enumerate(owners):
            own_keys.store(
                Principal("app_service", world.act.pk, owner), OPENAI, Secret(f"sk-own-{at:04d}"), status="valid"
            )
    return owners


def opened():
    with scope(SERVICE):
        return {row.owner_id: row.secret.reveal() for row in ProviderKey.objects.all()}


def run(**options):
    out = StringIO()
    code = 0
    try:
        call_command("reencrypt_keys", "--json", stdout=out, **options)
    except SystemExit as ended:
        code = ended.code
    return code, json.loads(out.getvalue())


@pytest.mark.django_db
def test_second_factors_are_sealed_and_follow_the_ring_also_those_that_were_stored_open(world, ring):
    """A-16: a copy of the database is nobody's second step. What an older release stored open works on, and is sealed."""
    secret, codes = totp.TOTP.activate(world.bob, SEED), RecoveryCodes.activate(world.bob)
    shown = codes.generate_codes()
    Authenticator.objects.create(user=world.alice, type="totp", data={"secret": SEED})
    stored = {row.user_id: row.data for row in Authenticator.objects.exclude(type="recovery_codes")}
    assert SEED not in str(stored[world.bob.pk])
    assert resealing.by_key() == {"old": 2}

    ring(BOTH)
    assert run()[1]["resealed"] == 3
    ring(f"new:{NEW}")

    assert resealing.by_key() == {"new": 3}
    for row in Authenticator.objects.all():
        assert SEED not in str(row.data)
        if row.type == "totp":
            assert decrypt(row.data["secret"]) == SEED
    again = Authenticator.objects.get(pk=codes.instance.pk)
    assert RecoveryCodes(again).generate_codes() == shown
    now = totp.format_hotp_value(totp.hotp_value(SEED, next(totp.yield_hotp_counters_from_time())))
    assert totp.TOTP(Authenticator.objects.get(pk=secret.instance.pk)).validate_code(now)


@pytest.mark.django_db
def test_every_key_is_sealed_anew_and_the_old_one_can_go(world, ring):
    """A-15."""
    owners = fill(world, 7)
    before = opened()
    ring(BOTH)

    code, done = run(at_a_time=3)

    assert (code, done["resealed"], done["left"], done["unreadable"]) == (0, 7, {}, [])
    ring(f"new:{NEW}")
    assert opened() == before
    assert len(before) == len(owners)
    assert run() == (0, {**done, "resealed": 0})


@pytest.mark.django_db
def test_what_cannot_be_opened_is_named_and_left_alone(world, ring):
    fill(world, 3)
    ring(f"new:{NEW}")

    code, done = run()

    assert (code, done["resealed"], len(done["unreadable"]), done["left"]) == (1, 0, 3, {"old": 3})
    ring(f"old:{OLD}")
    assert len(opened()) == 3


@pytest.mark.django_db
def test_without_a_ring_it_says_what_to_do(world, ring):
    ring("")

    with pytest.raises(CommandError, match="ENCRYPTION_KEYS"):
        call_command("reencrypt_keys")


@pytest.mark.django_db(transaction=True)
def test_members_go_on_replacing_their_keys_meanwhile(live_world, ring):
    """Whoever writes last has written: no old key comes back over a new one."""
    owners = fill(live_world, 24)
    ring(BOTH)
    last, over = {}, threading.Event()

    def replace():
        try:
            number = 0
            while not over.is_set():
                owner = owners[number % len(owners)]
                text = f"sk-own-{number:06d}"
                with scope(SERVICE):
                    own_keys.store(
                        Principal("app_service", live_world.act.pk, owner), OPENAI, Secret(text), status="valid"
                    )
                last[owner] = text
                number += 1
        finally:
            close_all()

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        found = [resealing.reseal(at_a_time=2) for _ in range(3)]
    finally:
        over.set()
        writer.join(30)

    assert found[-1].left == {}
    ring(f"new:{NEW}")
    assert opened() == {**{owner: f"sk-own-{at:04d}" for at, owner in enumerate(owners)}, **last}
    assert last


@pytest.mark.django_db(transaction=True)
def test_a_run_that_is_killed_loses_nothing_and_the_next_one_goes_on(live_world, ring):
    """kill -9 after the first of its transactions."""
    fill(live_world, 10)
    before = opened()
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.conversations.settings",
        "LIVE_DB": connections["service"].settings_dict["NAME"],
        "ENCRYPTION_KEYS": BOTH,
    }
    command = [sys.executable, "manage.py", "reencrypt_keys", "--json", "--at-a-time", "4"]

    killed = subprocess.run(
        command, cwd=product.BASE_DIR, env={**env, "FAULT": "after_resealing_a_batch"}, capture_output=True
    )
    assert killed.returncode == -9
    ring(BOTH)
    assert opened() == before
    assert resealing.by_key() == {"new": 4, "old": 6}

    done = subprocess.run(command, cwd=product.BASE_DIR, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resealed"] == 6
    ring(f"new:{NEW}")
    assert opened() == before


@pytest.mark.django_db
def test_while_both_keys_are_in_the_ring_everything_opens(world, ring):
    """The order of a rotation: the new key first in every process, then the run, then the old one goes."""
    (owner,) = fill(world, 1)
    ring(BOTH)
    assert opened()[owner] == "sk-own-0000"
    ring(f"new:{NEW}")
    with pytest.raises(CannotOpen):
        opened()
