//! The settings of a model, and the table of built-in providers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::expand::expand_set;
use crate::duration;
use crate::money::Price;

/// The option of `provider_opts` with how long a provider may take until the first byte of a reply.
pub const FIRST_BYTE_TIMEOUT: &str = "first_byte_timeout";
/// The option of `provider_opts` with how long a provider may take between two bytes of a reply.
pub const IDLE_TIMEOUT: &str = "idle_timeout";

/// The protocol of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// OpenAI's Chat Completions, which most other providers support too.
    OpenaiChat,
    /// OpenAI's Responses API.
    OpenaiResponses,
    /// Anthropic's Messages API.
    Anthropic,
    /// Google's Gemini API, or Vertex AI.
    Google,
    /// Amazon Bedrock's Converse API.
    AmazonBedrock,
    /// Docker Model Runner: Chat Completions on the worker's machine.
    DockerModelRunner,
    /// No provider: the replies come from a script, for tests and demonstrations.
    Scripted,
}

/// How much a model reasons before it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThinkingBudget {
    /// A level: `none`, `minimal`, `low`, `medium`, `high`, or another one that the provider supports.
    Effort(String),
    /// A number of tokens; -1 lets the model decide.
    Tokens(i64),
}

/// A rule that routes some turns to another model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoutingRule {
    /// The model for these turns.
    pub model: ModelSettings,
    /// Examples of user messages to which the rule applies.
    pub examples: Vec<String>,
}

/// A model with everything that a call needs, except for the key itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSettings {
    /// The provider: a built-in one such as `anthropic`, or a name from `providers`.
    pub provider: String,
    /// The name of the model at its provider.
    pub model: String,
    /// The protocol of the provider.
    pub api: Api,
    /// The base URL of the provider; `None` for its public one. May contain `${env.X}`, unexpanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The environment variables that may contain the key; the first that is set is used. Empty when no key
    /// is needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_keys: Vec<String>,
    /// The maximum number of output tokens of one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// The sampling temperature, from 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The nucleus sampling threshold, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// The penalty for frequent tokens, from -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// The penalty for tokens that occurred before, from -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// How much the model reasons; `None` for the default of the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking_budget: Option<ThinkingBudget>,
    /// The tokens that the model is told it may use for the whole task, which it paces itself by; `None` where it is told of
    /// no budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_budget: Option<u64>,
    /// Whether one reply may contain several tool calls; `None` for the default of the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// Whether token usage is counted; `None` means yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track_usage: Option<bool>,
    /// What its tokens cost; `None` for the fleet's price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Price>,
    /// Options that only this provider has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provider_opts: BTreeMap<String, serde_json::Value>,
    /// Rules that route turns to other models. This model gets the other turns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routing: Vec<RoutingRule>,
    /// Models that are taken in place of this one where its key is not set, in the order of preference: the rest of
    /// `first_available`. None of them has such a list itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub otherwise: Vec<ModelSettings>,
    /// The models that summarize its conversations where the agent names none; empty for itself. None of them has such a
    /// list itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compaction_models: Vec<ModelSettings>,
    /// The share of its window that a request may fill before the conversation is summarized; `None` for the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compaction_threshold: Option<f64>,
    /// Whether it is sent images; `None` where its name decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_images: Option<bool>,
}

impl ModelSettings {
    /// The settings of `provider/model` without a definition in the file; `None` for a provider that is not
    /// built in.
    #[must_use]
    pub fn inline(provider: &str, model: &str) -> Option<Self> {
        let known = builtin(provider)?;
        Some(Self::of(known.settings(), provider, model))
    }

    /// The default settings of a model at a provider, before the keys of its definition are applied.
    pub(super) fn of(at: ProviderSettings, provider: &str, model: &str) -> Self {
        let api = match at.api {
            Api::OpenaiChat if at.is_openai && wants_responses(model) => Api::OpenaiResponses,
            api => api,
        };
        Self {
            provider: provider.to_owned(),
            model: model.to_owned(),
            api,
            base_url: at.base_url,
            token_keys: at.token_keys,
            max_tokens: at.defaults.max_tokens,
            temperature: at.defaults.temperature,
            top_p: at.defaults.top_p,
            frequency_penalty: at.defaults.frequency_penalty,
            presence_penalty: at.defaults.presence_penalty,
            thinking_budget: at.defaults.thinking_budget,
            task_budget: at.defaults.task_budget,
            parallel_tool_calls: at.defaults.parallel_tool_calls,
            track_usage: at.defaults.track_usage,
            cost: None,
            provider_opts: at.defaults.provider_opts,
            routing: Vec::new(),
            otherwise: Vec::new(),
            compaction_models: Vec::new(),
            compaction_threshold: None,
            takes_images: None,
        }
    }

    /// The model to call: this one where one of its keys is set or it needs none, else the first of
    /// [`otherwise`](Self::otherwise) of which that is true, else this one. `has_key` tells whether an environment
    /// variable is set.
    #[must_use]
    pub fn available(&self, has_key: impl Fn(&str) -> bool) -> &Self {
        let can_call = |model: &Self| !model.needs_key() || model.token_keys.iter().any(|key| has_key(key));
        std::iter::once(self).chain(&self.otherwise).find(|model| can_call(model)).unwrap_or(self)
    }

    /// The model with the variables of its name and its address replaced, as far as `value` has them; `None` where they have
    /// none. One that is not set stays as it is written: the address is then an error, and the name is one that the provider
    /// does not know.
    #[must_use]
    pub fn expanded(&self, value: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let base_url = self.base_url.as_deref().map(|url| expand_set(url, &value));
        let model = expand_set(&self.model, &value);
        let is_same = model == self.model && base_url == self.base_url;
        (!is_same).then(|| Self { model, base_url, ..self.clone() })
    }

    /// The reference `provider/model`.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }

    /// Whether a call needs one of [`token_keys`](Self::token_keys) to be set.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        !self.token_keys.is_empty()
    }

    /// A string option of `provider_opts`; `None` when it is absent, empty or of another type.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.provider_opts.get(name).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty())
    }

    /// A timeout of `provider_opts`: a duration such as `90s`, or a number of seconds. `None` when it is absent.
    #[must_use]
    pub fn timeout(&self, name: &str) -> Option<Duration> {
        match self.provider_opts.get(name)? {
            serde_json::Value::String(text) => timeout_of(text),
            serde_json::Value::Number(seconds) => timeout_of(&seconds.to_string()),
            _ => None,
        }
    }

    /// Whether a boolean option of `provider_opts` is `true`.
    #[must_use]
    pub fn has_option(&self, name: &str) -> bool {
        self.provider_opts.get(name).and_then(serde_json::Value::as_bool).unwrap_or(false)
    }
}

/// The settings of a provider, which its models start from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ProviderSettings {
    pub(super) api: Api,
    pub(super) base_url: Option<String>,
    pub(super) token_keys: Vec<String>,
    /// Whether it is OpenAI itself, which serves some models by another protocol.
    pub(super) is_openai: bool,
    /// Whether each customer has a `base_url` of their own, which must be set.
    pub(super) needs_base_url: bool,
    /// What a model has where its definition does not say otherwise.
    pub(super) defaults: ModelDefaults,
}

/// The keys of a provider that its models start with.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ModelDefaults {
    pub(super) max_tokens: Option<u32>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) frequency_penalty: Option<f64>,
    pub(super) presence_penalty: Option<f64>,
    pub(super) thinking_budget: Option<ThinkingBudget>,
    pub(super) task_budget: Option<u64>,
    pub(super) parallel_tool_calls: Option<bool>,
    pub(super) track_usage: Option<bool>,
    pub(super) provider_opts: BTreeMap<String, serde_json::Value>,
    /// The reference of the model that writes summaries.
    pub(super) compaction_model: Option<String>,
}

/// A built-in provider.
#[derive(Debug)]
pub(super) struct Builtin {
    pub(super) name: &'static str,
    pub(super) api: Api,
    token_keys: &'static [&'static str],
    base_url: Option<&'static str>,
    /// Whether the model's definition must set `base_url`, because every customer has another one.
    needs_base_url: bool,
}

impl Builtin {
    /// The same settings as a provider of the file would have.
    pub(super) fn settings(&self) -> ProviderSettings {
        ProviderSettings {
            api: self.api,
            base_url: self.base_url.map(str::to_owned),
            token_keys: self.token_keys.iter().map(|key| (*key).to_owned()).collect(),
            is_openai: self.name == "openai",
            needs_base_url: self.needs_base_url,
            defaults: ModelDefaults::default(),
        }
    }
}

/// A provider with a protocol of its own, at its public URL.
const fn native(name: &'static str, api: Api, token_keys: &'static [&'static str]) -> Builtin {
    Builtin { name, api, token_keys, base_url: None, needs_base_url: false }
}

/// A provider that supports OpenAI's Chat Completions at another URL.
const fn compatible(
    name: &'static str,
    token_keys: &'static [&'static str],
    base_url: &'static str,
) -> Builtin {
    Builtin { name, api: Api::OpenaiChat, token_keys, base_url: Some(base_url), needs_base_url: false }
}

/// The built-in providers, which need no entry in `providers`. `docs/compatibility.md` lists them in this order.
pub(super) const BUILTIN: &[Builtin] = &[
    native("openai", Api::OpenaiChat, &["OPENAI_API_KEY"]),
    native("anthropic", Api::Anthropic, &["ANTHROPIC_API_KEY"]),
    native("google", Api::Google, &["GOOGLE_API_KEY", "GEMINI_API_KEY"]),
    native("amazon-bedrock", Api::AmazonBedrock, &["AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID"]),
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
    compatible("nvidia", &["NVIDIA_API_KEY"], "https://integrate.api.nvidia.com/v1"),
    compatible("openrouter", &["OPENROUTER_API_KEY"], "https://openrouter.ai/api/v1"),
    compatible("baseten", &["BASETEN_API_KEY"], "https://inference.baseten.co/v1"),
    compatible(
        "ovhcloud",
        &["OVH_AI_ENDPOINTS_ACCESS_TOKEN"],
        "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1",
    ),
    compatible("groq", &["GROQ_API_KEY"], "https://api.groq.com/openai/v1"),
    compatible("fireworks", &["FIREWORKS_API_KEY"], "https://api.fireworks.ai/inference/v1"),
    compatible("deepseek", &["DEEPSEEK_API_KEY"], "https://api.deepseek.com/v1"),
    compatible("cerebras", &["CEREBRAS_API_KEY"], "https://api.cerebras.ai/v1"),
    compatible("together", &["TOGETHER_API_KEY"], "https://api.together.xyz/v1"),
    compatible("huggingface", &["HF_TOKEN"], "https://router.huggingface.co/v1"),
    compatible("moonshot", &["MOONSHOT_API_KEY"], "https://api.moonshot.ai/v1"),
    compatible("vercel", &["AI_GATEWAY_API_KEY"], "https://ai-gateway.vercel.sh/v1"),
    compatible(
        "cloudflare-workers-ai",
        &["CLOUDFLARE_API_TOKEN"],
        "https://api.cloudflare.com/client/v4/accounts/${env.CLOUDFLARE_ACCOUNT_ID}/ai/v1",
    ),
    compatible(
        "cloudflare-ai-gateway",
        &["CLOUDFLARE_API_TOKEN"],
        "https://gateway.ai.cloudflare.com/v1/${env.CLOUDFLARE_ACCOUNT_ID}/${env.CLOUDFLARE_GATEWAY_ID}/compat",
    ),
    compatible("github-copilot", &["GITHUB_TOKEN"], "https://api.githubcopilot.com"),
    compatible("opencode-zen", &["OPENCODE_API_KEY"], "https://opencode.ai/zen/v1"),
    compatible("opencode-go", &["OPENCODE_API_KEY"], "https://opencode.ai/zen/go/v1"),
    Builtin {
        api: Api::OpenaiResponses,
        ..compatible("chatgpt", &["CHATGPT_OAUTH_TOKEN"], "https://chatgpt.com/backend-api/codex")
    },
    native("scripted", Api::Scripted, &[]),
];

/// The built-in provider with this name.
pub(super) fn builtin(name: &str) -> Option<&'static Builtin> {
    BUILTIN.iter().find(|provider| provider.name == name)
}

/// A duration above zero.
pub(super) fn timeout_of(text: &str) -> Option<Duration> {
    duration::parse(text).ok().filter(|timeout| !timeout.is_zero())
}

/// Whether calls of this model use OpenAI's Responses API.
fn wants_responses(model: &str) -> bool {
    const PREFIXES: &[&str] = &["gpt-4.1", "gpt-5", "o1", "o3", "o4", "codex"];
    PREFIXES.iter().any(|prefix| model.starts_with(prefix)) || model.contains("-codex")
}

/// The choices of `model: auto` in docker-agent's order: the provider, the variables of which one must be
/// set, and the model.
const AUTO: &[(&str, &[&str], &str)] = &[
    ("anthropic", &["ANTHROPIC_API_KEY"], "claude-sonnet-4-6"),
    ("openai", &["OPENAI_API_KEY"], "gpt-5.6"),
    ("chatgpt", &["CHATGPT_OAUTH_TOKEN"], "gpt-5.6"),
    ("google", &["GOOGLE_API_KEY", "GEMINI_API_KEY"], "gemini-3.5-flash"),
    ("mistral", &["MISTRAL_API_KEY"], "mistral-small-latest"),
    ("openrouter", &["OPENROUTER_API_KEY"], "meta-llama/llama-3.3-70b-instruct"),
    ("baseten", &["BASETEN_API_KEY"], "deepseek-ai/DeepSeek-V3.1"),
    ("ovhcloud", &["OVH_AI_ENDPOINTS_ACCESS_TOKEN"], "Qwen3.5-397B-A17B"),
    ("groq", &["GROQ_API_KEY"], "llama-3.3-70b-versatile"),
    ("fireworks", &["FIREWORKS_API_KEY"], "accounts/fireworks/models/kimi-k2-instruct"),
    ("deepseek", &["DEEPSEEK_API_KEY"], "deepseek-chat"),
    ("cerebras", &["CEREBRAS_API_KEY"], "gpt-oss-120b"),
    ("together", &["TOGETHER_API_KEY"], "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    ("huggingface", &["HF_TOKEN"], "meta-llama/Llama-3.3-70B-Instruct"),
    ("moonshot", &["MOONSHOT_API_KEY"], "kimi-k2-0905-preview"),
    ("vercel", &["AI_GATEWAY_API_KEY"], "openai/gpt-5.6-sol"),
    (
        "amazon-bedrock",
        &["AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"],
        "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
    ),
    ("opencode-zen", &["OPENCODE_API_KEY"], "deepseek-v4-flash-free"),
];

/// The model that `model: auto` stands for: that of the first provider with a key, or else of Docker Model
/// Runner on the worker's machine. `has_key` tells whether an environment variable is set.
pub fn auto_model(has_key: impl Fn(&str) -> bool) -> ModelSettings {
    AUTO.iter()
        .find(|(_, keys, _)| keys.iter().any(|key| has_key(key)))
        .and_then(|(provider, _, model)| ModelSettings::inline(provider, model))
        .unwrap_or_else(|| {
            let here = ProviderSettings {
                api: Api::DockerModelRunner,
                base_url: None,
                token_keys: Vec::new(),
                is_openai: false,
                needs_base_url: false,
                defaults: ModelDefaults::default(),
            };
            ModelSettings::of(here, "dmr", "ai/qwen3:latest")
        })
}
