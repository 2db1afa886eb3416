"""A brand's admins look after its members: invitations, roles, suspending, removing; what each means for the person."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from allauth.account.models import EmailAddress
from django.test import Client
from django.utils.html import escape

from accounts import brands, keys
from accounts.models import ApiKey, Brand, Invitation, Membership, Profile, User
from chatsite import erasing
from chatsite.members import inviting, listing, parting, standing
from chatsite.members.standing import Asked
from chatsite.tasks import member_left
from conversations.chats import sharing
from conversations.models import Share
from events.models import Activity, Event
from lib import clock
from lib.db import SERVICE, Principal, close_all, scope
from tests import factories
from tests.post import arrived

PAGE, CHANGE, INVITE = "/manage/members/", "/manage/members/change/", "/manage/members/invite/"
LINK = re.compile(r"http://\S+/join/\S+/")
DORA = {"email": "dora@example.com", "password1": "a-long-password"}


def browser(user=None, host="act.localhost"):
    client = Client(headers={"host": host})
    if user:
        client.force_login(user)
    return client


def read(queryset):
    with scope(SERVICE):
        return list(queryset)


def write(queryset, **fields):
    with scope(SERVICE):
        queryset.update(**fields)
    brands.forget()


def roles(brand):
    with scope(SERVICE):
        return dict(Membership.objects.filter(brand=brand).values_list("user__email", "role"))


def asked(brand, user):
    return Asked(Principal("app_brand", brand.pk, user.pk))


def link():
    """The one in the newest mail."""
    return urlsplit(LINK.search(arrived()[-1].body)[0])


def actions(brand):
    """But for who signed in."""
    lines = read(Activity.objects.filter(brand=brand).order_by("created_at"))
    return [row.action for row in lines if not row.action.startswith("session.")]


def heard(brand):
    """What programs are told of members: the deed, of whom, by whom, and what it carries."""
    rows = read(Event.objects.filter(brand=brand, type__startswith="member.").order_by("seq"))
    return [(row.type.partition(".")[2], row.subject_id, row.owner_id, row.data) for row in rows]


@pytest.fixture
def erin(world):
    """An admin of act, beside alice who owns it and bob who is a member."""
    erin = factories.make_user("erin@example.com")
    factories.make_member(world.act, erin, "admin")
    return erin


@pytest.fixture
def mandatory(settings):
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"


def test_who_is_invited_signs_up_with_that_address_alone_and_is_in_at_once(world, mandatory):
    """A-13: mail-bound, single use; the mailbox is proved by the link, so nothing else is to be confirmed."""
    write(Brand.objects.filter(pk=world.act.pk), open_sign_up=False)
    alice, dora, late = browser(world.alice), browser(), browser()

    said = alice.post(INVITE, {"do": "invite", "email": "Dora@Example.com", "role": "admin"}, follow=True)
    where = link()

    assert "dora@example.com is invited" in said.content.decode()
    assert (where.hostname, [mail.to for mail in arrived()]) == ("act.localhost", [["dora@example.com"]])
    assert where.path.split("/")[2] not in str(read(Invitation.objects.values())), "only a hash is stored"
    assert "By invitation only" in late.get("/account/signup/").content.decode()
    page = dora.get(where.path).content.decode()
    late.get(where.path)
    assert "alice@example.com invited dora@example.com" in page
    assert "Role: Admin" in page
    assert "dora@example.com" in dora.get(re.search(r'href="(/account/signup/[^"]+)"', page)[1]).content.decode()
    refused = dora.post("/account/signup/", {**DORA, "email": "mallory@example.com"})
    assert "Your invitation is for another address" in refused.content.decode()
    assert dora.post("/account/signup/", DORA).status_code == 302
    assert dora.get("/manage/members/").status_code == 200, "signed in, and an admin"
    assert roles(world.act)["dora@example.com"] == "admin"
    assert EmailAddress.objects.get(email="dora@example.com").verified
    assert len(arrived()) == 1, "nothing has to be confirmed"
    assert "does not work" in late.get(where.path).content.decode()
    assert "By invitation only" in late.post("/account/signup/", {**DORA, "email": "eve@example.com"}).content.decode()
    assert not User.objects.filter(email__in=["mallory@example.com", "eve@example.com"]).exists()


def test_who_has_an_account_joins_by_the_link_and_nobody_else_does(world, erin):
    """A-13: single use, mail-bound, expiring, role at most the inviter's, also when it is used."""
    brand, admin, charlie = world.act, browser(erin), browser(world.charlie)

    def sent(role="member"):
        assert (
            admin.post(INVITE, {"do": "invite", "email": "charlie@example.com", "role": role}, follow=True).status_code
            == 200
        )
        return link().path

    def opens(path):
        return charlie.get(path).status_code == 200 and "is_theirs" in charlie.get(path).context

    first = sent()
    stranger = browser().post(first)
    assert stranger.headers["Location"].startswith("/account/login/")
    bob = browser(world.bob)
    assert "signed in as bob@example.com" in bob.get(first).content.decode()
    assert bob.post(first).status_code == 403
    second = sent()
    assert not opens(first), "another to the same address takes its place"
    row = read(Invitation.objects.filter(accepted_at=None))[0]
    admin.post(INVITE, {"do": "resend", "invitation": row.pk})
    third = link().path
    assert (opens(second), opens(third)) == (False, True)
    write(Invitation.objects.all(), expires_at=clock.now())
    assert not opens(third)
    assert "over" in admin.get(PAGE).content.decode()
    fourth = sent("admin")
    assert charlie.get("/join/" + fourth.split("/")[2][:-1] + "x/").status_code == 404
    assert browser(world.charlie, "globex.localhost").get(fourth).status_code == 404, "another brand's"
    write(Membership.objects.filter(user=erin), role="member")
    assert charlie.post(fourth).status_code == 404, "who lost the role invited nobody"
    write(Membership.objects.filter(user=erin), role="admin")
    write(Membership.objects.filter(user=erin), suspended_at=clock.now())
    assert not opens(fourth)
    write(Membership.objects.filter(user=erin), suspended_at=None)
    for _ in range(3):
        charlie.post("/join/")
    assert actions(brand).count("member.joined") == 1, "asking again writes no line"
    joined = charlie.post(fourth, follow=True)
    assert joined.request["PATH_INFO"] == "/c/"
    assert roles(brand)["charlie@example.com"] == "admin"
    raised = read(Activity.objects.filter(brand=brand, action="member.role_changed"))
    assert [(line.actor_id, line.changes) for line in raised] == [(world.charlie.pk, {"role": ["member", "admin"]})]
    assert heard(brand)[-1] == ("role_changed", world.charlie.pk, world.charlie.pk, {"from": "member", "to": "admin"})
    assert charlie.post(fourth).status_code == 404
    member_already = admin.post(INVITE, {"do": "invite", "email": "charlie@example.com", "role": "member"})
    assert (member_already.status_code, "is a member already" in member_already.content.decode()) == (409, True)


def test_an_invitation_is_withdrawn_and_nobody_invites_above_themselves_or_without_end(world, erin, monkeypatch):
    """A-13"""
    admin = browser(erin)
    admin.post(INVITE, {"do": "invite", "email": "dora@example.com", "role": "member"})
    path, row = link().path, read(Invitation.objects.all())[0]

    admin.post(INVITE, {"do": "withdraw", "invitation": row.pk})

    assert browser().get(path).status_code == 404
    assert "Nobody was" not in admin.get(PAGE).content.decode()
    assert admin.post(INVITE, {"do": "withdraw", "invitation": row.pk}).status_code == 404
    assert admin.post(INVITE, {"do": "invite", "email": "eve@example.com", "role": "owner"}).status_code == 403
    wrong = admin.post(INVITE, {"do": "invite", "email": "not an address", "role": "member"})
    assert (wrong.status_code, 'value="not an address"' in wrong.content.decode()) == (422, True)
    monkeypatch.setattr(inviting, "MOST_IN_A_DAY", 1)
    assert admin.post(INVITE, {"do": "invite", "email": "eve@example.com", "role": "member"}).status_code == 429
    assert not read(Invitation.objects.all())
    assert sorted(actions(world.act)) == ["invitation.sent", "invitation.withdrawn"]


def test_roles_change_within_ones_own_and_the_last_owner_stays(world, erin):
    """I-06, A-19"""
    alice, admin, bob = browser(world.alice), browser(erin), browser(world.bob)

    def change(client, user, **fields):
        return client.post(CHANGE, {"member": user.pk, **fields})

    assert change(bob, world.bob, do="role", role="owner").status_code == 404
    assert change(admin, world.bob, do="role", role="owner").status_code == 403
    for do in ("suspend", "remove", "role"):
        assert change(admin, world.alice, do=do, role="member").status_code == 403
    assert change(alice, world.charlie, do="role", role="member").status_code == 404, "another brand's"
    last = change(alice, world.alice, do="role", role="member")
    assert (last.status_code, "only owner" in last.content.decode()) == (409, True)
    for do in ("suspend", "remove"):
        assert change(alice, world.alice, do=do).status_code == 400
    assert change(alice, world.bob, do="role", role="emperor").status_code == 400
    assert roles(world.act) == {"alice@example.com": "owner", "bob@example.com": "member", "erin@example.com": "admin"}
    assert change(alice, world.bob, do="role", role="owner").status_code == 303
    assert change(bob, world.alice, do="role", role="member").status_code == 303
    assert roles(world.act)["alice@example.com"] == "member"
    assert alice.get(PAGE).status_code == 404
    assert [mail.to[0] for mail in arrived()] == ["bob@example.com", "alice@example.com"]
    changed = read(Activity.objects.filter(action="member.role_changed"))
    assert sorted(str(row.changes["role"]) for row in changed) == ["['member', 'owner']", "['owner', 'member']"]


def test_a_suspended_member_is_out_at_once_and_finds_everything_when_let_back_in(world, erin):
    """A-03, I-11: the session, a key and a shared link of theirs end with their standing."""
    with scope(SERVICE):
        _, key = keys.create(world.act, world.bob, name="tests", scopes=["conversations:read"])
    talk = factories.make_conversation(world.act, world.bob, "Mine", said=[("user", "Well?"), ("assistant", "Well.")])
    bob, admin = browser(world.bob), browser(erin)
    bob.post(f"/c/{talk.pk}/share/link/", {"days": "7"})
    program = {"authorization": f"Bearer {key}"}
    shared = f"/s/{sharing.token(read(Share.objects.all())[0].pk)}/"
    assert browser().get(shared).status_code == 200

    admin.post(CHANGE, {"do": "suspend", "member": world.bob.pk})

    out = bob.get("/c/")
    assert (out.status_code, "Your access is suspended" in out.content.decode()) == (404, True)
    assert bob.post("/join/").status_code in (302, 403)
    assert bob.get("/c/").status_code == 404, "joining is no way back in"
    assert browser().get("/api/v1/chat-history", headers=program).status_code == 401
    assert browser().get(shared).status_code == 404
    assert "suspended" in admin.get(PAGE).content.decode()
    assert arrived()[-1].to == ["bob@example.com"]
    assert "suspended" in arrived()[-1].body
    with pytest.raises(inviting.IsMember):
        inviting.invite(asked(world.act, world.alice), world.act, "bob@example.com", "member")

    admin.post(CHANGE, {"do": "reinstate", "member": world.bob.pk})

    assert bob.get(f"/c/{talk.pk}/").status_code == 200
    assert browser().get("/api/v1/chat-history", headers=program).status_code == 200
    assert parting.part(world.act.pk, world.bob.pk) is False, "whoever is back keeps their plan"
    assert {"member.suspended", "member.reinstated"} <= set(actions(world.act))


def test_removing_is_taken_back_within_ten_minutes_and_final_after_that(world, erin, monkeypatch):
    with scope(SERVICE):
        made, _ = keys.create(world.act, world.bob, name="tests", scopes=["conversations:read"])
    talk = factories.make_conversation(world.act, world.bob, "Mine")
    bob, admin = browser(world.bob), browser(erin)
    later = []
    monkeypatch.setattr(member_left, "apply_async", lambda ids, countdown: later.append((ids, countdown)))
    monkeypatch.setattr(standing, "on_commit", lambda work: work())

    gone = admin.post(CHANGE, {"do": "remove", "member": world.bob.pk}, follow=True)
    token = re.search(r'name="removed" value="([^"]+)"', gone.content.decode())[1]

    assert "bob@example.com is no longer a member" in gone.content.decode()
    assert "Undo" in gone.content.decode()
    assert later == [([str(world.act.pk), str(world.bob.pk)], 660)]
    assert "Join Act" in bob.get("/c/").content.decode()
    elsewhere = browser(world.charlie, "globex.localhost").post(CHANGE, {"do": "restore", "removed": token})
    assert elsewhere.status_code == 400, "another brand's admin cannot use it"
    assert admin.post(CHANGE, {"do": "restore", "removed": token + "x"}).status_code == 400
    admin.post(CHANGE, {"do": "restore", "removed": token})
    assert roles(world.act)["bob@example.com"] == "member"
    assert bob.get(f"/c/{talk.pk}/").status_code == 200
    assert parting.part(world.act.pk, world.bob.pk) is False

    write(Membership.objects.filter(user=world.bob), suspended_at=clock.now())
    gone = admin.post(CHANGE, {"do": "remove", "member": world.bob.pk}, follow=True)
    suspended = re.search(r'name="removed" value="([^"]+)"', gone.content.decode())[1]
    admin.post(CHANGE, {"do": "restore", "removed": suspended})
    write(Membership.objects.filter(user=world.bob), suspended_at=None, role="owner")
    admin.post(CHANGE, {"do": "restore", "removed": suspended})
    assert read(Membership.objects.filter(brand=world.act, user=world.bob, suspended_at=None)), "taken back once"
    write(Membership.objects.filter(user=world.bob), role="member")

    admin.post(CHANGE, {"do": "remove", "member": world.bob.pk})
    monkeypatch.setattr(standing, "UNDO_FOR", timedelta(seconds=-1))
    late = admin.post(CHANGE, {"do": "restore", "removed": token})
    assert (late.status_code, "too late" in late.content.decode()) == (400, True)
    assert parting.part(world.act.pk, world.bob.pk) is True
    assert parting.part(world.act.pk, world.bob.pk) is True, "safe to repeat"
    assert read(ApiKey.objects.filter(pk=made.pk))[0].is_active is False
    assert "bob@example.com" not in roles(world.act)


def test_programs_hear_of_each_change_once_and_of_none_that_was_refused(world, erin):
    """In the transaction that does it, whoever does it: an admin, the person who accepts more, who deletes their account."""
    brand, bob, boss = world.act, world.bob, asked(world.act, world.alice)

    for _ in range(2):
        standing.change_role(boss, bob.pk, "admin")
    with pytest.raises(standing.AboveYou):
        standing.suspend(asked(brand, erin), world.alice.pk)
    for _ in range(2):
        standing.suspend(boss, bob.pk)
    token = standing.remove(boss, bob.pk)
    standing.restore(boss, token)
    standing.restore(boss, token)
    standing.reinstate(boss, bob.pk)
    erasing.erase(bob, by=bob.pk)

    admin, alice = {"role": "admin"}, world.alice.pk
    assert heard(brand) == [
        ("role_changed", bob.pk, alice, {"from": "member", "to": "admin"}),
        ("suspended", bob.pk, alice, admin),
        ("removed", bob.pk, alice, admin | {"reason": "removed"}),
        ("joined", bob.pk, bob.pk, {}),
        ("suspended", bob.pk, alice, admin),
        ("reinstated", bob.pk, alice, admin),
        ("removed", bob.pk, bob.pk, admin | {"reason": "account_deleted"}),
    ]


def test_the_page_shows_who_runs_the_brand_and_its_members_page_by_page(world, erin, monkeypatch):
    monkeypatch.setattr(listing, "PAGE", 2)
    for number in range(3):
        factories.make_member(world.act, factories.make_user(f"m{number}@example.com"))
    write(Profile.objects.filter(user__email="m1@example.com"), full_name="<b>Mo</b>")
    admin = browser(erin)

    first = admin.get(PAGE)
    page = first.content.decode()
    second = admin.get("?".join((PAGE, re.search(r'href="\?(after=[^"]+)"', page)[1]))).content.decode()

    assert [person.email for person in first.context["people"].team] == ["alice@example.com", "erin@example.com"]
    assert [person.email for person in first.context["people"].members] == ["m2@example.com", "m1@example.com"]
    assert escape("<b>Mo</b>") in page
    assert f"member={world.alice.pk}" not in page, "an admin changes no owner"
    assert "charlie@example.com" not in page + second
    assert ("m0@example.com" in second, "bob@example.com" in second, "alice@example.com" in second) == (
        True, True, False
    )  # fmt: skip
    found = admin.get(PAGE, {"q": "BOB@"}).content.decode()
    assert ("bob@example.com" in found, "m1@example.com" in found) == (True, False)
    assert "Nobody with that" in admin.get(PAGE, {"q": "charlie"}).content.decode()
    chosen = admin.get(PAGE, {"member": world.bob.pk}).content.decode()
    assert "Their chats are kept" in chosen
    assert "Only an owner decides" in admin.get(PAGE, {"member": world.alice.pk}).content.decode()
    assert admin.get(PAGE, {"member": world.charlie.pk}).context["chosen"] is None


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_demote_each_other_leave_one(live_world):
    world = live_world
    with scope(SERVICE):
        Membership.objects.filter(user=world.bob).update(role="owner")

    def demote(pair):
        by, whom = pair
        try:
            standing.change_role(asked(world.act, by), whom.pk, "member")
            return True
        except Exception:
            return False
        finally:
            close_all()

    for _ in range(5):
        with ThreadPoolExecutor(2) as both:
            done = list(both.map(demote, [(world.alice, world.bob), (world.bob, world.alice)]))
        assert sorted(done) == [False, True]
        assert sorted(roles(world.act).values()) == ["member", "owner"]
        write(Membership.objects.filter(brand=world.act), role="owner")
