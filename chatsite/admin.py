"""The staff's site: Django's own admin, run in the service scope. Content is read only under a support grant."""

import functools
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest

from lib.db import SERVICE, scope


class StaffSite(AdminSite):
    site_header = site_title = "chatsite"
    index_title = "Staff"

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        inner = super().admin_view(view, cacheable)

        @functools.wraps(inner)
        def outer(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if not self.has_permission(request):
                return inner(request, *args, **kwargs)  # to the log-in page, without any rights
            with scope(SERVICE):
                response = inner(request, *args, **kwargs)
                return response.render() if hasattr(response, "render") else response  # lists are read while drawn

        return outer
