//! Where a model is, by which key it is reached, and which wire it speaks. Pure.

use legwork_common::team::Api;
use legwork_common::team::ModelSettings;
use legwork_common::team::expand_template;

use super::wires::WireKind;
use crate::environment::Environment;
use crate::model::ModelError;

/// The provider whose addresses and keys are written in another way.
const AZURE: &str = "azure";
/// The version of Azure's interface where the file names none.
const AZURE_VERSION: &str = "2024-10-21";
/// The error where Vertex is configured with an API key.
const VERTEX_TOKEN: &str = "Vertex takes no API key: name with `token_key` a variable that holds an access token, such as that of `gcloud auth print-access-token`";
/// Sent as the key where a provider needs none.
const NO_KEY: &str = "none";

/// The address, the key and the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) wire: WireKind,
    /// What the path of a request follows, with a slash at the end.
    base: String,
    /// What follows the path, with its question mark; may be empty.
    query: String,
    /// The header of the key, name in lower case, and its value.
    pub(super) key: (&'static str, String),
}

impl Target {
    /// The address of a request with this path.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}{}", self.base, self.query)
    }
}

/// The address, the key and the wire of a model.
pub(super) fn target(
    settings: &ModelSettings,
    agent: &str,
    environment: &Environment,
) -> Result<Target, ModelError> {
    let key = settings.token_keys.iter().find_map(|name| environment.variable(name));
    if key.is_none() && settings.needs_key() {
        return Err(ModelError::MissingKey {
            agent: agent.to_owned(),
            variable: settings.token_keys.join(" or "),
            model: settings.reference(),
        });
    }
    let elsewhere = elsewhere(settings, environment);
    let wire = wire(settings, elsewhere.is_some())?;
    let url = elsewhere.unwrap_or_else(|| usual_place(settings));
    let key = key.unwrap_or(NO_KEY);
    if settings.provider == AZURE {
        let (base, query) = azure(settings, &url, wire);
        return Ok(Target { wire, base, query, key: ("api-key", key.to_owned()) });
    }
    let key = match wire {
        WireKind::Anthropic => ("x-api-key", key.to_owned()),
        WireKind::Gemini if !is_vertex(settings) => ("x-goog-api-key", key.to_owned()),
        WireKind::Gemini | WireKind::OpenaiChat | WireKind::OpenaiResponses => {
            ("authorization", format!("Bearer {key}"))
        }
    };
    Ok(Target { wire, base: with_version(settings, &url), query: String::new(), key })
}

/// Azure's address and query: the path of the deployment, which is named like the model, is added to the address of the
/// resource; an address with a path below `/openai` is used as it is. Responses have one address for all deployments.
fn azure(settings: &ModelSettings, url: &str, wire: WireKind) -> (String, String) {
    let bare = url.trim_end_matches('/');
    let version = settings.option("api_version");
    let beyond_scheme = bare.split_once("://").map_or(bare, |(_, rest)| rest);
    // The name of a resource may hold the word too.
    let path = beyond_scheme.split_once('/').map_or("", |(_, path)| path);
    let (place, version) = if path.starts_with("openai") || path.contains("/openai") {
        (bare.to_owned(), version)
    } else if wire == WireKind::OpenaiResponses {
        (format!("{bare}/openai/v1"), version)
    } else {
        // As the original does: names of deployments have neither dots nor colons.
        let deployment = settings.model.replace(['.', ':'], "");
        (format!("{bare}/openai/deployments/{deployment}"), version.or(Some(AZURE_VERSION)))
    };
    let query = version.map(|version| format!("?api-version={version}")).unwrap_or_default();
    (format!("{place}/"), query)
}

/// The address that the file or the environment gives.
fn elsewhere(settings: &ModelSettings, environment: &Environment) -> Option<String> {
    let value = |name: &str| environment.variable(name).map(str::to_owned);
    if let Some(url) = &settings.base_url {
        return Some(expand_template(url, value)).filter(|url| !url.is_empty());
    }
    match (settings.api, settings.provider.as_str()) {
        (Api::OpenaiChat | Api::OpenaiResponses, "openai") => value("OPENAI_BASE_URL"),
        (Api::Anthropic, "anthropic") => value("ANTHROPIC_BASE_URL"),
        (Api::DockerModelRunner, _) => {
            value("MODEL_RUNNER_HOST").map(|host| format!("{}/engines/v1", host.trim_end_matches('/')))
        }
        _ => None,
    }
}

/// The provider's own address.
fn usual_place(settings: &ModelSettings) -> String {
    match settings.api {
        Api::OpenaiChat | Api::OpenaiResponses | Api::Scripted | Api::AmazonBedrock => {
            "https://api.openai.com/v1".to_owned()
        }
        Api::Anthropic => "https://api.anthropic.com/v1".to_owned(),
        Api::Google => match settings.option("project") {
            Some(project) => {
                let location = settings.option("location").unwrap_or("global");
                let host = match location {
                    "global" => String::new(),
                    elsewhere => format!("{elsewhere}-"),
                };
                format!("https://{host}aiplatform.googleapis.com/v1/projects/{project}/locations/{location}")
            }
            None => "https://generativelanguage.googleapis.com/v1beta".to_owned(),
        },
        Api::DockerModelRunner => "http://127.0.0.1:12434/engines/v1".to_owned(),
    }
}

/// With a slash at the end; for Anthropic with the version that its own library adds, and for Vertex with the publisher.
fn with_version(settings: &ModelSettings, url: &str) -> String {
    let bare = url.trim_end_matches('/');
    match settings.api {
        Api::Anthropic if !bare.ends_with("/v1") => format!("{bare}/v1/"),
        Api::Google if is_vertex(settings) => format!("{bare}/publishers/google/"),
        _ => format!("{bare}/"),
    }
}

fn is_vertex(settings: &ModelSettings) -> bool {
    settings.api == Api::Google && settings.option("project").is_some()
}

/// The wire. OpenAI-compatible servers at other addresses are expected to speak chat completions, unless the file sets
/// `api_type`.
fn wire(settings: &ModelSettings, elsewhere: bool) -> Result<WireKind, ModelError> {
    let refused =
        |detail: &str| ModelError::Refused { model: settings.reference(), detail: detail.to_owned() };
    match settings.api {
        Api::OpenaiResponses if elsewhere && !settings.provider_opts.contains_key("api_type") => {
            Ok(WireKind::OpenaiChat)
        }
        Api::OpenaiResponses => Ok(WireKind::OpenaiResponses),
        Api::OpenaiChat | Api::DockerModelRunner => Ok(WireKind::OpenaiChat),
        Api::Anthropic => Ok(WireKind::Anthropic),
        Api::Google => {
            let by_key = settings.token_keys.iter().any(|name| name == "GOOGLE_API_KEY");
            if is_vertex(settings) && by_key { Err(refused(VERTEX_TOKEN)) } else { Ok(WireKind::Gemini) }
        }
        Api::AmazonBedrock => Err(refused("Bedrock has a wire of its own")),
        Api::Scripted => Err(refused("scripted models need a script (--script)")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn placed(reference: &str, base_url: Option<&str>, variables: &[(&str, &str)]) -> (String, WireKind) {
        let (provider, model) = reference.split_once('/').unwrap();
        let mut settings = ModelSettings::inline(provider, model).unwrap();
        if base_url.is_some() {
            settings.base_url = base_url.map(str::to_owned);
        }
        let keys = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "XAI_API_KEY"];
        let mut all: BTreeMap<String, String> = keys.map(|key| (key.to_owned(), "k".to_owned())).into();
        all.extend(variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        let target = target(&settings, "a", &Environment::new(all, "/".into())).unwrap();
        (target.url(""), target.wire)
    }

    #[test]
    fn a_resource_of_azure_may_be_called_openai() {
        let settings = ModelSettings::inline("openai", "gpt-4.1").unwrap();
        let deployment = "openai/deployments/gpt-41/chat/completions?api-version=2024-10-21";
        let table = [
            ("https://openai-east.example/", format!("https://openai-east.example/{deployment}")),
            ("https://east.example", format!("https://east.example/{deployment}")),
            ("https://openai.example/openai/v1/", "https://openai.example/openai/v1/chat/completions".into()),
        ];
        for (url, expected) in table {
            let (base, query) = azure(&settings, url, WireKind::OpenaiChat);
            assert_eq!(format!("{base}chat/completions{query}"), expected);
        }
    }

    #[test]
    fn addresses_and_wires() {
        let openai = ("OPENAI_BASE_URL", "http://x/v1/");
        let anthropic = ("ANTHROPIC_BASE_URL", "http://y");
        let table = [
            ("openai/gpt-4o", None, None, "https://api.openai.com/v1/", WireKind::OpenaiChat),
            ("openai/gpt-5", None, None, "https://api.openai.com/v1/", WireKind::OpenaiResponses),
            ("openai/gpt-5", None, Some(openai), "http://x/v1/", WireKind::OpenaiChat),
            ("openai/gpt-4o", Some("http://file/v1"), Some(openai), "http://file/v1/", WireKind::OpenaiChat),
            (
                "openai/m",
                Some("${env.HOST}/v1"),
                Some(("HOST", "http://h")),
                "http://h/v1/",
                WireKind::OpenaiChat,
            ),
            ("xai/grok", None, Some(openai), "https://api.x.ai/v1/", WireKind::OpenaiChat),
            ("anthropic/c", None, None, "https://api.anthropic.com/v1/", WireKind::Anthropic),
            ("anthropic/c", None, Some(anthropic), "http://y/v1/", WireKind::Anthropic),
            ("anthropic/c", Some("http://z/v1/"), None, "http://z/v1/", WireKind::Anthropic),
            ("google/g", None, None, "https://generativelanguage.googleapis.com/v1beta/", WireKind::Gemini),
            ("dmr/ai/qwen3", None, None, "http://127.0.0.1:12434/engines/v1/", WireKind::OpenaiChat),
        ];
        for (reference, base_url, variable, url, wire) in table {
            let variables: Vec<_> = variable.into_iter().collect();
            assert_eq!(placed(reference, base_url, &variables), (url.to_owned(), wire), "{reference}");
        }
    }

    #[test]
    fn a_missing_key_names_the_variable_and_the_agent() {
        let settings = ModelSettings::inline("google", "gemini").unwrap();
        let empty = BTreeMap::from([("GOOGLE_API_KEY".to_owned(), String::new())]);
        let error = target(&settings, "root", &Environment::new(empty, "/".into())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "agent `root` needs the environment variable GOOGLE_API_KEY or GEMINI_API_KEY for google/gemini, and it is not set"
        );
    }
}
