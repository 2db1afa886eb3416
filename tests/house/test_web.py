"""A web process before its first request."""

import gc

from chatsite.web import warm_up


async def test_what_stands_at_the_start_is_never_looked_at_for_garbage_again():
    """A full collection over all of Django would hold every stream up for 0.2 s."""
    thresholds = gc.get_threshold()
    try:
        await warm_up()

        assert gc.get_freeze_count() > 100_000
        assert len(gc.get_objects()) < gc.get_freeze_count() / 10
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
