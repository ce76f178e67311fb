"""The providers and wires that are tried against the mock, each as a model of an agent file."""

from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Provider:
    """A model of an agent file. `U` in its settings stands for the address of the mock."""

    name: str
    model: dict
    providers: dict = field(default_factory=dict)
    # Whether every scenario is tried, not only those of an alias of another wire.
    full: bool = True
    # Whether the mock counts tokens as the provider does.
    counts_tokens: bool = True


def compatible(name, url="U/v1", model="gpt-4o", **more):
    return Provider(name, {"provider": name, "model": model, "base_url": url}, full=False, **more)


CUSTOM = {
    "openrouter": {"api_type": "openai_chatcompletions", "base_url": "U/api/v1", "token_key": "OPENROUTER_API_KEY"}
}
VERTEX = {"project": "p", "location": "global"}
BEDROCK = {"endpoint_url": "U", "region": "us-east-1"}
CLAUDE_ON_BEDROCK = "anthropic.claude-sonnet-4-20250514-v1:0"

PROVIDERS = [
    Provider("openai-chat", {"provider": "openai", "model": "gpt-4o", "base_url": "U/v1"}),
    Provider(
        "openai-responses",
        {
            "provider": "openai",
            "model": "gpt-5-mini",
            "base_url": "U/v1",
            "provider_opts": {"api_type": "openai_responses"},
        },
    ),
    Provider("anthropic", {"provider": "anthropic", "model": "claude-sonnet-4-5", "base_url": "U"}),
    Provider("google", {"provider": "google", "model": "gemini-2.5-flash", "base_url": "U/v1beta"}),
    Provider("amazon-bedrock", {"provider": "amazon-bedrock", "model": CLAUDE_ON_BEDROCK, "provider_opts": BEDROCK}),
    Provider(
        "vertex",
        {
            "provider": "google",
            "model": "gemini-2.5-flash",
            "base_url": "U/v1/projects/p/locations/global",
            "token_key": "GOOGLE_ACCESS_TOKEN",
            "provider_opts": VERTEX,
        },
    ),
    Provider("azure", {"provider": "azure", "model": "gpt-4o", "base_url": "U"}),
    Provider("openrouter", {"provider": "openrouter", "model": "openai/gpt-4o"}, providers=CUSTOM),
    Provider(
        "bedrock-signed",
        {
            "provider": "amazon-bedrock",
            "model": CLAUDE_ON_BEDROCK,
            "token_key": "AWS_ACCESS_KEY_ID",
            "provider_opts": BEDROCK,
        },
        full=False,
    ),
    # Mistral counts tokens unasked; the mock counts them only where a request asks, which Mistral refuses.
    compatible("mistral", model="mistral-small-latest", counts_tokens=False),
    compatible("xai", model="grok-4"),
    compatible("nebius"),
    compatible("requesty"),
    compatible("minimax"),
    compatible("ollama", model="llama3.2"),
    Provider("dmr", {"provider": "dmr", "model": "ai/qwen3", "base_url": "U/engines/v1"}, full=False),
]

KEYS = {
    name: "a-key"
    for name in [
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GOOGLE_API_KEY",
        "GOOGLE_ACCESS_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AZURE_API_KEY",
        "OPENROUTER_API_KEY",
        "MISTRAL_API_KEY",
        "XAI_API_KEY",
        "NEBIUS_API_KEY",
        "REQUESTY_API_KEY",
        "MINIMAX_API_KEY",
    ]
}
