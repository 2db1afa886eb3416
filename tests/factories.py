"""Plain functions that make rows. What they do not take as an argument does not matter to the test."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from accounts import brands
from accounts.models import Brand, Membership, Profile, User
from billing.models import Plan
from billing.plans import assign_default_plan, assign_plan, install_catalogue
from conversations.models import Conversation, Message
from lib.db import SERVICE, Principal, scope
from providers import offers
from providers.models import AIProvider, Price, SystemPrompt
from tests.snapshot import Snapshot, counts

PASSWORD = "a-long-password"


@dataclass
class World:
    act: Brand
    globex: Brand
    alice: User
    bob: User
    charlie: User
    staff: User
    demo: AIProvider
    prompt: SystemPrompt


def make_user(email: str, **fields: Any) -> User:
    with scope(SERVICE):
        user = User.objects.create_user(email, PASSWORD, **fields)
        Profile.objects.create(user=user, full_name=email.split("@")[0].title())
        return user


def make_brand(slug: str, **fields: Any) -> Brand:
    with scope(SERVICE):
        fields = {"name": slug.title(), "domain": f"{slug}.localhost", "default_plan": "free", **fields}
        brand = Brand.objects.create(slug=slug, **fields)
        install_catalogue(brand, "s1")
        install_catalogue(brand, "s0")
        assign_plan(brand, Plan.objects.get(brand=brand, code="pool"))
        brands.forget()  # those of the test before
        return brand


def make_member(brand: Brand, user: User, role: str = "member", plan: str = "") -> Membership:
    with scope(SERVICE):
        membership = Membership.objects.create(brand=brand, user=user, role=role)
        if plan:
            assign_plan(brand, Plan.objects.get(brand=brand, code=plan), user_id=user.pk)
        else:
            assign_default_plan(brand, user.pk)
        return membership


def make_provider(
    identifier: str = "demo", *, protocol: str = "demo", priced: bool = True, **fields: Any
) -> AIProvider:
    with scope(SERVICE):
        provider = AIProvider.objects.create(
            api_identifier=identifier,
            protocol=protocol,
            **{"name": identifier.title(), "model": identifier, "max_tokens": 500, **fields},
        )
        if priced:
            Price.objects.create(
                provider=provider,
                input_microusd_per_mtok=1_000_000,
                output_microusd_per_mtok=4_000_000,
                starts_at=datetime(2026, 1, 1, tzinfo=UTC),
            )
        offers.forget()
        return provider


def make_prompt(brand: Brand, name: str = "Helpful", text: str = "You are a helpful assistant.") -> SystemPrompt:
    with scope(SERVICE):
        return SystemPrompt.objects.create(brand=brand, name=name, prompt_text=text)


_world: list[Snapshot] = []  # of this process


def make_world() -> World:
    """Made by the product once in a process, in an empty database; then its rows are written again."""
    if _world:
        brands.forget()
        offers.forget()
        world: World = _world[0].write_again()
        return world
    before = counts()
    world = _make_world()
    if not any(before[name] for name in ("accounts_brand", "accounts_user")):
        _world.append(Snapshot(before, world))
    return world


def _make_world() -> World:
    act, globex = make_brand("act"), make_brand("globex")
    alice, bob, charlie = (make_user(f"{name}@example.com") for name in ("alice", "bob", "charlie"))
    make_member(act, alice, "owner", "pro")
    make_member(act, bob)
    make_member(globex, charlie, "owner", "pro")
    staff = make_user("staff@example.com", is_staff=True, is_superuser=True)
    make_prompt(globex)
    make_provider("demo-embedding", kind="embedding", position=190)
    return World(act, globex, alice, bob, charlie, staff, make_provider(), make_prompt(act))


def member(brand: Brand, user: User) -> Principal:
    return Principal("app_user", brand.pk, user.pk)


def make_conversation(
    brand: Brand, user: User, title: str = "A chat", *, said: Iterable[tuple[str, str]] = ()
) -> Conversation:
    with scope(member(brand, user)):
        conversation = Conversation.objects.create(brand=brand, owner_id=user.pk, title=title)
        for role, content in said:
            Message.objects.create(brand=brand, owner_id=user.pk, conversation=conversation, role=role, content=content)
        return conversation
