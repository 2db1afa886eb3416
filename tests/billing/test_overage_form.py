"""The switch and the cap of what goes beyond the plan: off until chosen, and what does not fit is refused at its field."""

import pytest

from events.models import Activity
from lib.db import SERVICE, scope
from quotas.models import Account
from tests.billing.test_pages import account, browser, set_plan, text_of

PAGE, SWITCH = "/settings/plan/", "/settings/plan/overage/"


def of(world, user):
    with scope(SERVICE):
        row = account(world.act, user)
    return row.overage_on, row.overage_cap_microusd


def features(world, user, **given):
    with scope(SERVICE):
        row = account(world.act, user)
        row.features |= given
        row.save(update_fields=["features"])


def test_it_is_off_until_chosen_and_says_that_nothing_is_charged_before(world):
    said = text_of(browser(world.alice).get(PAGE))

    assert of(world, world.alice) == (False, None)
    assert "Nothing is charged without that choice." in said
    assert "Extra off" in said
    assert "$0 of $10" in said
    assert "Extra questions need a stored card first. Storing one charges nothing." in said


@pytest.mark.parametrize(
    ("given", "stored"), [("10", 10_000_000), ("7.5", 7_500_000), ("$2.25", 2_250_000), (" 0.03 ", 30_000)]
)
def test_a_cap_within_the_plans_is_taken_and_shown_again(world, given, stored):
    client = browser(world.alice)

    answer = client.post(SWITCH, {"on": "on", "cap": given})

    assert (answer.status_code, answer["Location"]) == (303, PAGE + "#overage")
    assert of(world, world.alice) == (True, stored)
    said = text_of(client.get(PAGE))
    assert "Extra questions are on, up to the cap." in said
    assert "$0 of $" in said
    with scope(SERVICE):
        assert Activity.objects.filter(action="overage.changed", actor_id=world.alice.pk).exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("10.01", "Your plan allows $10 a month at most."),
        ("999999999", "Your plan allows $10 a month at most."),
        ("-5", "Write an amount from 0.01 to $10"),
        ("ten", "Write an amount from 0.01 to $10"),
        ("5,00", "Write an amount from 0.01 to $10"),
        ("1e3", "Write an amount from 0.01 to $10"),
        ("\u0665", "Write an amount from 0.01 to $10"),
        ("0.001", "Write an amount from 0.01 to $10"),
        ("9" * 39, "Write an amount from 0.01 to $10"),
        ("9" * 41, "at most 40 characters"),
        ("NaN", "Write an amount from 0.01 to $10"),
        ("0", "At 0 nothing extra could be asked."),
        ("0.02", "One costs $0.025, so nothing extra could be asked."),
        ("", "Write the most that extra questions may cost in a month."),
        ("\x00", "Null characters are not allowed"),
        ("<b>5</b>", "Write an amount from 0.01 to $10"),
    ],
)
def test_a_cap_that_does_not_fit_is_refused_at_its_field_with_the_text_kept(world, given, words):
    answer = browser(world.alice).post(SWITCH, {"on": "on", "cap": given})
    body = answer.content.decode()

    assert answer.status_code == 400
    assert words in text_of(answer)
    assert 'aria-invalid="true" aria-describedby="overage-cap-error' in body
    assert "<b>5</b>" not in body
    if given.isascii() and given.isprintable() and "<" not in given:
        assert f'name="cap" inputmode="decimal" autocomplete="off" value="{given}"' in body
    assert 'id="overage-on" checked' in body
    assert of(world, world.alice) == (False, None)


def test_switching_off_keeps_no_cap_and_says_so(world):
    client = browser(world.alice)
    client.post(SWITCH, {"on": "on", "cap": "5"})

    client.post(SWITCH, {"cap": ""})

    assert of(world, world.alice) == (False, None)
    assert "Extra questions are off. Nothing more is charged." in text_of(client.get(PAGE))


def test_switching_off_with_a_cap_below_the_price_of_today_is_never_refused(world):
    client = browser(world.alice)
    client.post(SWITCH, {"on": "on", "cap": "0.05"})
    features(world, world.alice, overage_price_microusd=100_000)

    client.post(SWITCH, {"cap": "0.05"})

    assert of(world, world.alice) == (False, 50_000)


def test_a_plan_without_extra_questions_has_nothing_to_switch_on(world):
    client = browser(world.bob)

    answer = client.post(SWITCH, {"on": "on", "cap": "5"})

    assert answer.status_code == 400
    assert "Your plan has no extra questions" in text_of(answer)
    assert of(world, world.bob) == (False, None)
    assert "overage-cap" not in client.get(PAGE).content.decode()


def test_pay_as_you_go_sets_a_cap_without_leaving_a_choice_behind_for_the_next_plan(world):
    """What a plan does by itself is no choice of the member's, and does not follow them to a plan where it would be one."""
    features(world, world.alice, overage_by_default=True, is_billable=True)
    client = browser(world.alice)

    assert "On your plan you pay $0.025 a question, up to the cap below." in text_of(client.get(PAGE))
    assert client.post(SWITCH, {"on": "on", "cap": "3"}).status_code == 303

    assert of(world, world.alice) == (False, 3_000_000)


def test_what_is_owed_for_a_pack_that_was_paid_back_is_told(world):
    with scope(SERVICE):
        Account.objects.filter(owner_id=world.alice.pk).update(arrears_microusd=2_500_000)

    said = text_of(browser(world.alice).get(PAGE))

    assert (
        "$2.50 of a pack that was paid back had been used already. Extra questions rest until that is settled." in said
    )


def test_a_cap_is_written_in_the_plans_own_currency(world):
    set_plan(world.act, "pro", currency="EUR")

    assert "€0 of €10" in text_of(browser(world.alice).get(PAGE))


def test_a_german_reader_types_the_cap_as_it_is_shown(world):
    client = browser(world.alice)
    client.cookies["prefs"] = "language=de"

    assert client.post(SWITCH, {"on": "on", "cap": "7,50 $"}).status_code == 303
    page = client.get(PAGE).content.decode()
    assert 'value="7.50"' in page
    assert "7,50\u00a0$" in page
