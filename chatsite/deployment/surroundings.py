"""The queue, the worker and its clock, the disks, people's files, yesterday's backup."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import redis
from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connections

from chatsite.backups import archive, programs
from chatsite.celery import app
from chatsite.deployment.finding import Finding
from conversations.tasks import RAN_AT
from lib import clock
from lib import files as stored_files
from lib.db import NOBODY

OLDEST_REDIS = (6, 2)
LATE_S = 60  # the reaper runs every 5 s
LITTLE_BYTES, VERY_LITTLE_BYTES = 2 * 10**9, 300 * 10**6
BACKUP_IS_OLD = timedelta(hours=26)


def _redis() -> dict[str, object] | None:
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=3) as client:
            return dict(client.info())
    except redis.RedisError:
        return None


def redis_server() -> Iterator[Finding]:
    told = _redis()
    if told is None:
        yield Finding(
            "error",
            "redis",
            "REDIS_URL does not answer.",
            "Nothing is done in the background: crashed answers stay open, mails stay unsent.",
            "Check that Valkey or Redis runs, and REDIS_URL.",
        )
        return
    version = str(told.get("redis_version", "0.0"))
    if tuple(map(int, version.split(".")[:2])) < OLDEST_REDIS:
        yield Finding(
            "error",
            "redis",
            f"The server behind REDIS_URL speaks the protocol of Redis {version}.",
            "Commands of 6.2 and later are used, and refused there.",
            "Move to Valkey 7.2 or newer, or Redis 6.2 or newer.",
        )
    policy = told.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield Finding(
            "error",
            "redis",
            f"Its maxmemory-policy is {policy}.",
            "When its memory is full it throws queued work away without a word.",
            "Set maxmemory-policy noeviction, or give the queue a server of its own.",
        )


def background_work() -> Iterator[Finding]:
    """The reaper says when it last ran. It runs when beat queues it and a worker takes it, so both are proved at once."""
    if _redis() is None:
        return
    ran_at = cache.get(RAN_AT)
    if ran_at is not None and clock.now() - ran_at < timedelta(seconds=LATE_S):
        return
    since = f"for {int((clock.now() - ran_at).total_seconds())} s" if ran_at is not None else "at all"
    effect = "Answers whose process died stay open and their quota held; mails and nightly proofs wait."
    if app.control.ping(timeout=2):
        yield Finding(
            "error",
            "beat",
            f"A worker answers, but nothing has been queued for it by the clock {since}.",
            effect,
            "Start beat, once in the whole deployment: systemctl start chatsite-beat",
        )
    else:
        yield Finding(
            "error",
            "worker",
            f"No worker answers, and no periodic work has been done {since}.",
            effect,
            "systemctl start chatsite-worker chatsite-beat; `journalctl -u chatsite-worker` says why it ended.",
        )


def disks() -> Iterator[Finding]:
    folders = {Path(folder) for folder in (settings.BASE_DIR, settings.BACKUP_DIR, settings.FILES_DIR) if folder}
    disks = {folder.stat().st_dev: folder for folder in sorted(folders, reverse=True) if folder.is_dir()}
    for folder in disks.values():  # each disk once, by the first of its folders
        free = shutil.disk_usage(folder).free
        if free < LITTLE_BYTES:
            yield Finding(
                "error" if free < VERY_LITTLE_BYTES else "warning",
                "disk",
                f"The disk that holds {folder} has {free // 10**6} MB left.",
                "Backups and upgrades fail on a full disk; a database on it stops.",
                "Make room: journalctl --vacuum-size=500M, old releases, old backups.",
            )


def files() -> Iterator[Finding]:
    """Where people's files go: in a release's own folder they would be gone with the next one."""
    folder = None if settings.FILES_STORAGE else Path(settings.FILES_DIR)
    if folder and not settings.DEVELOPMENT and folder.resolve().is_relative_to(Path(settings.BASE_DIR).resolve()):
        yield Finding(
            "error",
            "files",
            f"FILES_DIR is {folder}, in the folder of this release.",
            "The next release does not find what people brought and what waits for them.",
            "Set FILES_DIR to a folder that stays, the same for every process: /var/lib/chatsite/files",
        )
        return
    try:
        key = stored_files.save(NOBODY, "trial", "", b"written, read, deleted")
        with stored_files.open(key, brand_id=NOBODY) as file:
            file.read()
        stored_files.delete(key, brand_id=NOBODY)
    except Exception as error:  # whatever a storage of somebody else's raises
        yield Finding(
            "error",
            "files",
            f"Nothing can be stored in {folder or settings.FILES_STORAGE}: {error}",
            "Attaching a file, exporting many chats and downloading all of one's data fail.",
            "Let the user of the processes write there, or check FILES_STORAGE and FILES_STORAGE_OPTIONS.",
        )


def backups() -> Iterator[Finding]:
    if not settings.BACKUP_DIR:
        yield Finding(
            "warning",
            "backups",
            "BACKUP_DIR is not set.",
            "Nobody here knows whether there is a backup.",
            "Set BACKUP_DIR and enable chatsite-backup.timer, unless something else backs the database up.",
        )
        return
    newest = max(
        Path(settings.BACKUP_DIR).glob(f"*{archive.SUFFIX}"), key=lambda path: path.stat().st_mtime, default=None
    )
    remedy = "systemctl enable --now chatsite-backup.timer; `journalctl -u chatsite-backup` says what went wrong."
    if newest is None:
        yield Finding(
            "error", "backups", f"There is no backup in {settings.BACKUP_DIR}.", "A lost disk loses all.", remedy
        )
    else:
        age = datetime.now(UTC) - datetime.fromtimestamp(newest.stat().st_mtime, UTC)
        if age > BACKUP_IS_OLD:
            yield Finding(
                "error",
                "backups",
                f"The newest backup, {newest.name}, is {age.days} days and {age.seconds // 3600} hours old.",
                "A lost disk loses all that came after it.",
                remedy,
            )
    try:
        with connections["service"].cursor() as cursor:
            cursor.execute("select current_setting('server_version_num')::int / 10000")
            programs.find("pg_dump", server_major=cursor.fetchone()[0])
    except DatabaseError:
        pass  # log_ins() says so
    except programs.NoProgram as missing:
        yield Finding(
            "error", "backups", str(missing).split(". Debian")[0] + ".", "No backup can be taken.", str(missing)
        )
