"""The vendors' own hosts: only here, and at the addresses of the environment, do our own keys count."""

from dataclasses import dataclass

OPENAI_URL = "https://api.openai.com/v1"
OPENROUTER_URL = "https://openrouter.ai/api/v1"
ANTHROPIC_URL = "https://api.anthropic.com"


@dataclass(frozen=True, slots=True)
class Vendor:
    """Somebody at whom a member may have a key of their own (providers.own_keys).

    check      what is asked, below the vendor's own address, to find out whether a key is accepted; it costs nothing
    begins     how the keys of this vendor alone begin; "" = like anybody's
    made_at    where a person makes one
    """

    code: str
    name: str
    protocol: str
    home: str
    check: str
    begins: str
    made_at: str


VENDORS = {
    vendor.code: vendor
    for vendor in (
        Vendor("openai", "OpenAI", "openai", OPENAI_URL, "/models", "", "https://platform.openai.com/api-keys"),
        Vendor(
            "anthropic", "Anthropic", "anthropic", ANTHROPIC_URL, "/v1/models?limit=1", "sk-ant-",
            "https://platform.claude.com/settings/keys",
        ),
        # Its list of models is open to everybody, so it says nothing about a key.
        Vendor("openrouter", "OpenRouter", "openai", OPENROUTER_URL, "/key", "sk-or-", "https://openrouter.ai/settings/keys"),
    )
}  # fmt: skip
