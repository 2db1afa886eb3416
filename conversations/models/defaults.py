"""What the database puts into a column of JSON that nobody has written yet."""

from django.db.models import JSONField, Value

EMPTY = Value({}, JSONField())
NONE = Value([], JSONField())
