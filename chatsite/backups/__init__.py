"""A copy of everything that must not be lost, and the way home.

One file: a ZIP that holds PostgreSQL's own dump and a manifest of what the database held at that very instant. Restoring
builds an empty database up from it in one transaction, then holds it against the manifest and proves walls and balances.
"""

from chatsite.backups.restoring import restore
from chatsite.backups.taking import take

__all__ = ["restore", "take"]
