"""Whether the walls between brands stand, as facts: of the catalogue, and of what was tried against them."""

from collections.abc import Callable
from typing import Any

from chatsite.isolation import rights, walls
from chatsite.isolation.catalogue import Proof

CHECKS: tuple[Callable[[Any], Proof], ...] = (
    walls.every_table_is_walled,
    walls.every_policy_compares_columns,
    walls.every_key_carries_the_brand,
    walls.every_unique_key_keeps_quiet,
    rights.every_role_is_bounded,
    rights.every_right_was_meant,
    rights.every_function_is_known,
    rights.every_view_obeys_its_reader,
)
