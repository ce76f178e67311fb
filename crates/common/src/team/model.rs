//! The settings of a model, and the table of providers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

/// How a provider is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// OpenAI's chat completions, which most other providers speak too.
    OpenaiChat,
    /// OpenAI's Responses.
    OpenaiResponses,
    /// Anthropic's Messages.
    Anthropic,
    /// Google's Gemini, or Vertex.
    Google,
    /// Amazon Bedrock's Converse.
    AmazonBedrock,
    /// Docker Model AgentKind: chat completions on this machine.
    DockerModelRunner,
    /// No provider: replies read from a file, for tests and demonstrations.
    Scripted,
}

/// How much a model thinks before it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThinkingBudget {
    /// `none`, `minimal`, `low`, `medium`, `high` or a word that the provider knows.
    Effort(String),
    /// In tokens; -1 leaves it to the model.
    Tokens(i64),
}

/// A rule that sends some turns to another model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoutingRule {
    /// The model that takes the turn.
    pub model: ModelSettings,
    /// What the user's messages look like when the rule applies.
    pub examples: Vec<String>,
}

/// One model, with everything that a call needs but the key itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSettings {
    /// The provider, as the file names it: `anthropic`, `xai`, a name of `providers`.
    pub provider: String,
    /// The model's name at its provider.
    pub model: String,
    /// How the provider is spoken to.
    pub api: Api,
    /// Where the provider is; none: its usual place. May hold `${env.X}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The environment variables that may hold the key, the first that is set wins; empty: no key is needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_keys: Vec<String>,
    /// The most tokens of one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// From 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// From 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// From -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// From -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// How much the model thinks; none: as its provider's default says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking_budget: Option<ThinkingBudget>,
    /// Whether one answer may ask for several tool calls; none: as the provider does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// Whether the tokens used are counted; none: they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track_usage: Option<bool>,
    /// What only this provider knows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provider_opts: BTreeMap<String, serde_json::Value>,
    /// Rules that send turns to other models; this one takes the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routing: Vec<RoutingRule>,
}

impl ModelSettings {
    /// The settings of `provider/model` where the file says nothing more. None for a provider that is not built in.
    #[must_use]
    pub fn inline(provider: &str, model: &str) -> Option<Self> {
        let known = builtin(provider)?;
        Some(Self::of(known.custom(), provider, model))
    }

    /// The settings of a model at a provider, before the file's own keys for the model.
    pub(super) fn of(at: ProviderSettings, provider: &str, model: &str) -> Self {
        let api = match at.api {
            Api::OpenaiChat if provider == "openai" && wants_responses(model) => Api::OpenaiResponses,
            api => api,
        };
        Self {
            provider: provider.to_owned(),
            model: model.to_owned(),
            api,
            base_url: at.base_url,
            token_keys: at.token_keys,
            max_tokens: None,
            temperature: None,
            top_p: None,
            frequency_penalty: None,
            presence_penalty: None,
            thinking_budget: None,
            parallel_tool_calls: None,
            track_usage: None,
            provider_opts: BTreeMap::new(),
            routing: Vec::new(),
        }
    }

    /// `provider/model`.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }

    /// Whether a call fails without one of `token_keys`.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        !self.token_keys.is_empty()
    }

    /// An option of `provider_opts` that is text.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.provider_opts.get(name).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty())
    }

    /// Whether a flag of `provider_opts` is on.
    #[must_use]
    pub fn has_option(&self, name: &str) -> bool {
        self.provider_opts.get(name).and_then(serde_json::Value::as_bool).unwrap_or(false)
    }
}

/// What is known of a provider before a model is named.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ProviderSettings {
    pub(super) api: Api,
    pub(super) base_url: Option<String>,
    pub(super) token_keys: Vec<String>,
}

/// One line of the table of providers.
#[derive(Debug)]
pub(super) struct Builtin {
    pub(super) name: &'static str,
    pub(super) api: Api,
    token_keys: &'static [&'static str],
    base_url: Option<&'static str>,
    /// Whether the file must say where the provider is.
    pub(super) needs_base_url: bool,
}

impl Builtin {
    /// As the settings of a provider that the file could have defined.
    pub(super) fn custom(&self) -> ProviderSettings {
        ProviderSettings {
            api: self.api,
            base_url: self.base_url.map(str::to_owned),
            token_keys: self.token_keys.iter().map(|key| (*key).to_owned()).collect(),
        }
    }
}

/// A provider with an interface of its own, at its usual place.
const fn native(name: &'static str, api: Api, token_keys: &'static [&'static str]) -> Builtin {
    Builtin { name, api, token_keys, base_url: None, needs_base_url: false }
}

/// A provider that speaks OpenAI's chat completions somewhere else.
const fn compatible(
    name: &'static str,
    token_keys: &'static [&'static str],
    base_url: &'static str,
) -> Builtin {
    Builtin { name, api: Api::OpenaiChat, token_keys, base_url: Some(base_url), needs_base_url: false }
}

/// The providers that need no `providers:` section.
pub(super) const BUILTIN: &[Builtin] = &[
    native("openai", Api::OpenaiChat, &["OPENAI_API_KEY"]),
    native("anthropic", Api::Anthropic, &["ANTHROPIC_API_KEY"]),
    native("google", Api::Google, &["GOOGLE_API_KEY", "GEMINI_API_KEY"]),
    native("amazon-bedrock", Api::AmazonBedrock, &["AWS_BEARER_TOKEN_BEDROCK"]),
    native("dmr", Api::DockerModelRunner, &[]),
    compatible("mistral", &["MISTRAL_API_KEY"], "https://api.mistral.ai/v1"),
    compatible("xai", &["XAI_API_KEY"], "https://api.x.ai/v1"),
    compatible("nebius", &["NEBIUS_API_KEY"], "https://api.studio.nebius.com/v1"),
    compatible("requesty", &["REQUESTY_API_KEY"], "https://router.requesty.ai/v1"),
    compatible("minimax", &["MINIMAX_API_KEY"], "https://api.minimax.io/v1"),
    compatible("ollama", &[], "http://localhost:11434/v1"),
    Builtin {
        name: "azure",
        api: Api::OpenaiChat,
        token_keys: &["AZURE_API_KEY"],
        base_url: None,
        needs_base_url: true,
    },
    native("scripted", Api::Scripted, &[]),
];

/// The built-in provider of this name.
pub(super) fn builtin(name: &str) -> Option<&'static Builtin> {
    BUILTIN.iter().find(|provider| provider.name == name)
}

/// Whether OpenAI serves this model by Responses.
fn wants_responses(model: &str) -> bool {
    const STARTS: &[&str] = &["gpt-4.1", "gpt-5", "o1", "o3", "o4", "codex"];
    STARTS.iter().any(|start| model.starts_with(start)) || model.contains("-codex")
}

/// The order in which `model: auto` looks for a key: provider, variables of which one is enough, model.
const AUTO: &[(&str, &[&str], &str)] = &[
    ("anthropic", &["ANTHROPIC_API_KEY"], "claude-sonnet-4-5"),
    ("openai", &["OPENAI_API_KEY"], "gpt-5-mini"),
    ("google", &["GOOGLE_API_KEY", "GEMINI_API_KEY"], "gemini-2.5-flash"),
    ("mistral", &["MISTRAL_API_KEY"], "mistral-small-latest"),
    (
        "amazon-bedrock",
        &["AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"],
        "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
    ),
];

/// The model that `model: auto` means where these keys are set: the first provider with a key, else the model runner of this
/// machine. `has_key` is asked for names of environment variables.
pub fn choose_auto(has_key: impl Fn(&str) -> bool) -> ModelSettings {
    AUTO.iter()
        .find(|(_, keys, _)| keys.iter().any(|key| has_key(key)))
        .and_then(|(provider, _, model)| ModelSettings::inline(provider, model))
        .unwrap_or_else(|| {
            let here =
                ProviderSettings { api: Api::DockerModelRunner, base_url: None, token_keys: Vec::new() };
            ModelSettings::of(here, "dmr", "ai/qwen3:latest")
        })
}
