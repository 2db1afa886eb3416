"""Questions to begin with, of a member and of a brand."""

from django.db import models

from accounts.models import BrandOwned, Owned


class Starter(models.Model):
    """A question to begin with (S0, S2: conversation starters). `{fields}` in its text are asked for before it is sent."""

    title = models.CharField(max_length=80)
    text = models.TextField(max_length=4000)
    needs = models.CharField(max_length=160, blank=True, default="", db_default="")  # of whoever uses it, in words
    position = models.PositiveSmallIntegerField(default=100, db_default=100)
    is_active = models.BooleanField(default=True, db_default=True)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True)  # can be taken back for 30 days

    class Meta:
        abstract = True
        ordering = ["position", "id"]

    def __str__(self) -> str:
        return self.title


class Template(Owned, Starter):
    """A member's own starter."""

    class Meta(Starter.Meta):
        indexes = [models.Index(fields=["brand", "owner_id", "position"], name="templates_of_owner")]


class BrandTemplate(BrandOwned, Starter):
    """A starter that the brand gives to all who ask there, visitors too."""

    class Meta(Starter.Meta):
        verbose_name = "template of a brand"
        verbose_name_plural = "templates of brands"
        indexes = [models.Index(fields=["brand", "position"], name="templates_of_brand")]
