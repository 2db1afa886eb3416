"""O-16: the rules and their page speak of metrics and conditions that exist, and leave none out."""

import re
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from prometheus_client import REGISTRY

from chatsite.metrics import Moment
from events.models import Alarm
from lib import clock, metrics
from tests.house.test_alarms import CONDITIONS

RULES = (Path(settings.BASE_DIR) / "deploy" / "prometheus" / "alerts.yml").read_text()
PAGE = (Path(settings.BASE_DIR) / "docs" / "monitoring.md").read_text()
NAMED = re.compile(r"chatsite_[a-z_]+")
ALARMS = {*CONDITIONS, "queue_backlog", "webhooks_lag"}


@pytest.fixture
def names(db):
    metrics.requests.labels("GET", "x", 200)
    shown = Moment([Alarm(name="x", checked_at=clock.now())]).collect()
    families = [*shown, *REGISTRY.collect()]
    return {
        family.name + ("_total" if family.type == "counter" else "")
        for family in families
        if family.name.startswith("chatsite_")
    }


def test_each_metric_stands_on_the_page_and_nothing_else_does(names):
    assert set(NAMED.findall(PAGE)) == names
    assert set(NAMED.findall(RULES)) <= names


def test_each_rule_and_condition_says_what_to_do():
    (group,) = yaml.safe_load(RULES)["groups"]

    for rule in group["rules"]:
        assert re.search(rf"^\|.*`{rule['alert']}`.*\|.+\|.+\|$", PAGE, re.M), rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
    for name in ALARMS:
        assert re.search(rf"^\| `{name}` \|.+\|.+\|$", PAGE, re.M), name


def test_five_hundreds_above_half_a_percent_are_an_alert():
    (group,) = yaml.safe_load(RULES)["groups"]
    (rule,) = [rule["expr"] for rule in group["rules"] if rule["alert"] == "ChatsiteErrors"]

    assert " ".join(rule.split()) == (
        'sum(rate(chatsite_requests_total{status=~"5.."}[5m])) > 0.005 * sum(rate(chatsite_requests_total[5m]))'
    )
