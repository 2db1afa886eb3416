"""Which tests take long: they begin first, so that no worker is left alone with one; and who joins them is told.

No timing decides anything here. What is told is for whoever wrote the test: make it shorter, or add it to the list.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from _pytest.nodeid import NodeId

LONG_S = 30
# The longest first. Groups (of Chromium, of clusters and workers of one's own) are begun before all others anyway.
LONG = [
    "test_a_process_that_dies_between_two_steps_leaves_a_whole_turn_or_none",
    "test_everybody_gets_what_the_policy_says_and_touches_only_his_own",
    "test_three_hundred_open_streams_hold_no_connection_and_no_thread",
    "test_the_walls_stand_behind_a_pooler",
    "test_whatever_dies_at_random_nothing_accepted_is_lost_and_nothing_is_paid_twice",
    "test_a_hundred_questions_a_second_run_no_more_at_once_than_the_caps_and_starve_nobody",
    "test_nothing_is_lost_when_the_database_is_killed_under_web_and_worker",
    "test_no_header_gives_anybody_anything",
    "test_a_rolling_restart_under_load_fails_no_request_and_loses_no_word",
    "test_any_order_of_events_leaves_every_balance_proved",
    # of groups
    "test_it_greets_and_serves_and_the_next_one_adopts_what_a_killed_one_left_and_names_a_program_that_dies",
    "test_ctrl_c_stops_everything",
]


def longest_first(items: list[Any]) -> None:
    items.sort(key=lambda item: LONG.index(item.originalname) if item.originalname in LONG else len(LONG))


def group(items: list[Any]) -> None:
    """Name each test's group behind its id, where the scheduler of xdist looks for it.

    xdist 3.8 writes the name where pytest 9.2 does not read it any more, so no test stayed with its group.
    """
    for item in items:
        names = sorted({mark.args[0] for mark in item.iter_markers("xdist_group")})
        if names and not item.nodeid.endswith(f"@{'_'.join(names)}"):
            item._id = NodeId.parse(f"{item.nodeid}@{'_'.join(names)}")


def newly_long(reports: Iterable[Any]) -> list[str]:
    """Seconds and name of each test over LONG_S, set-up and all, that is not in the list."""
    took = Counter[str]()
    for report in reports:
        if hasattr(report, "nodeid") and hasattr(report, "duration"):
            took[re.sub(r"@\w+$", "", report.nodeid)] += report.duration  # without its group
    is_known = [name for name in took if name.split("::")[-1].split("[")[0] in LONG]
    return [
        f"{seconds:.0f} s  {name}" for name, seconds in took.most_common() if seconds > LONG_S and name not in is_known
    ]
