"""What is wrong with this very deployment, and what to do about it.

Each check looks at one thing as it is now and yields Findings; one that cannot look because something else is away says
nothing, that other thing does.
"""

from collections.abc import Callable, Iterable

from chatsite.deployment import configuration, data, databases, payments, surroundings
from chatsite.deployment.finding import Finding

CHECKS: tuple[Callable[[], Iterable[Finding]], ...] = (
    configuration.development,
    configuration.django,
    configuration.proxy,
    configuration.mail,
    configuration.stand_in,
    configuration.sealing,
    configuration.static_files,
    databases.log_ins,
    databases.one_database,
    databases.server,
    databases.pooler,
    databases.room,
    databases.migrations,
    databases.walls,
    databases.clock,
    data.brands,
    data.default_plans,
    data.staff,
    data.models,
    payments.keys,
    payments.endpoint,
    payments.left_behind,
    data.own_keys,
    surroundings.redis_server,
    surroundings.background_work,
    surroundings.disks,
    surroundings.files,
    surroundings.backups,
)


def findings() -> list[Finding]:
    """All of them, errors first."""
    found = [finding for check in CHECKS for finding in check()]
    return sorted(found, key=lambda finding: finding.level != "error")
