//! The keys of models and providers.

use super::CHECKED;
use super::Keys;
use super::no;
use super::noted;
use super::partly;
use super::refused;
use super::until;
use super::yes;

pub(in crate::team) const PROVIDER: Keys = Keys {
    noun: "a provider",
    keys: &[
        noted(
            "provider",
            "the built-in provider whose protocol and defaults it has; `openai` where it is absent",
        ),
        yes("api_type"),
        noted("base_url", "required, unless `provider` names a built-in provider"),
        yes("token_key"),
        noted("max_tokens", "a default for the provider's models, like every key below"),
        yes("temperature"),
        yes("top_p"),
        partly("frequency_penalty", "only with OpenAI's protocols"),
        partly("presence_penalty", "only with OpenAI's protocols"),
        partly("parallel_tool_calls", "only with OpenAI's protocols"),
        yes("track_usage"),
        partly("thinking_budget", "as for a model"),
        partly("provider_opts", "as for a model; the options of a model win one by one"),
        partly("task_budget", "as for a model"),
        partly("compaction_model", "for the models of `models`"),
        no("unload_api", "no model is unloaded"),
        refused(
            "auth",
            "no short-lived token is fetched; put a key into the variable that `token_key` names",
        ),
    ],
};

pub(in crate::team) const MODEL: Keys = Keys {
    noun: "a model",
    keys: &[
        yes("provider"),
        yes("model"),
        yes("max_tokens"),
        yes("temperature"),
        yes("top_p"),
        partly("frequency_penalty", "only with OpenAI's protocols"),
        partly("presence_penalty", "only with OpenAI's protocols"),
        yes("base_url"),
        partly("token_key", "for Bedrock a bearer token, for Vertex AI an access token"),
        partly("parallel_tool_calls", "only with OpenAI's protocols"),
        yes("track_usage"),
        partly(
            "thinking_budget",
            "sent regardless of the session's settings; a level that the provider does not support is omitted",
        ),
        partly(
            "provider_opts",
            "supported: `api_type`, `api_version` (Azure), `context_size`, `endpoint_url` and `region` (Bedrock), `interleaved_thinking` (Anthropic, Claude on Bedrock), `location` and `project` (Vertex AI); for every other option a warning says why it has no effect",
        ),
        noted("routing", "chosen by the words that the examples share with the last message to the agent"),
        noted(
            "first_available",
            "the worker that runs the agent takes the first model whose key is set there",
        ),
        no("title_model", "sessions have no titles"),
        no("description", "no user picks a model"),
        noted("compaction_model", "that of an agent wins; the agent's own models follow where it fails"),
        noted("compaction_threshold", "wins over that of an agent"),
        noted("cost", "wins over the policy file and the table of prices"),
        partly("capabilities", "`image`; other attachments are sent to no model"),
        no("output_capabilities", "no image is generated"),
        noted("bypass_models_gateway", "there is no gateway: every model is called at its provider"),
        partly("task_budget", "sent to Anthropic; other models are told of no budget"),
        refused(
            "auth",
            "no short-lived token is fetched; put a key into the variable that `token_key` names",
        ),
        until(yes("type"), 0),
        until(no("env", "set the variables in the environment of the worker"), 1),
    ],
};

pub(in crate::team) const THINKING: Keys =
    Keys { noun: "a thinking budget", keys: &[yes("effort"), yes("tokens")] };

pub(in crate::team) const ROUTING: Keys =
    Keys { noun: "a routing rule", keys: &[yes("model"), yes("examples")] };

pub(in crate::team) const TASK_BUDGET: Keys =
    Keys { noun: "a task budget", keys: &[yes("type"), yes("total")] };

pub(in crate::team) const COST: Keys = Keys {
    noun: "a cost",
    keys: &[
        yes("input"),
        yes("output"),
        noted("cache_read", "the price of `input` where it is not set"),
        partly("cache_write", "checked; what is written to the cache costs as `input`"),
    ],
};

pub(in crate::team) const CAPABILITIES: Keys = Keys {
    noun: "the capabilities",
    keys: &[yes("image"), partly("pdf", CHECKED), partly("audio", CHECKED), partly("video", CHECKED)],
};

pub(in crate::team) const OUTPUT_CAPABILITIES: Keys =
    Keys { noun: "the output capabilities", keys: &[partly("image", CHECKED)] };
