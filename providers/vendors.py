"""The vendors' own hosts: only here, and at the addresses of the environment, do our own keys count."""

OPENAI_URL = "https://api.openai.com/v1"
OPENROUTER_URL = "https://openrouter.ai/api/v1"
ANTHROPIC_URL = "https://api.anthropic.com"
