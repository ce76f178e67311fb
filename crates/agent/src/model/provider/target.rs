//! Where a model is, and by which key it is reached. Pure.

use genai::ModelIden;
use genai::ServiceTarget;
use genai::adapter::AdapterKind;
use genai::resolver::AuthData;
use genai::resolver::Endpoint;
use legwork_common::team::Api;
use legwork_common::team::ModelSettings;
use legwork_common::team::expand_template;

use crate::environment::Environment;
use crate::model::ModelError;

/// Sent where a provider wants no key.
const NO_KEY: &str = "none";

/// The address, the key and the wire.
pub(super) fn target(
    settings: &ModelSettings,
    agent: &str,
    environment: &Environment,
) -> Result<ServiceTarget, ModelError> {
    let key = settings.token_keys.iter().find_map(|name| environment.variable(name));
    if key.is_none() && (settings.needs_key() || settings.api == Api::AmazonBedrock) {
        return Err(ModelError::MissingKey {
            agent: agent.to_owned(),
            variable: settings.token_keys.join(" or "),
            model: settings.reference(),
        });
    }
    let elsewhere = elsewhere(settings, environment);
    let adapter = adapter(settings, elsewhere.is_some())?;
    let url = elsewhere.unwrap_or_else(|| usual_place(settings, environment));
    Ok(ServiceTarget {
        endpoint: Endpoint::from_owned(with_version(settings.api, &url)),
        auth: AuthData::from_single(key.unwrap_or(NO_KEY)),
        model: ModelIden::new(adapter, settings.model.as_str()),
    })
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
fn usual_place(settings: &ModelSettings, environment: &Environment) -> String {
    match settings.api {
        Api::OpenaiChat | Api::OpenaiResponses | Api::Scripted => "https://api.openai.com/v1".to_owned(),
        Api::Anthropic => "https://api.anthropic.com/v1".to_owned(),
        Api::Google => "https://generativelanguage.googleapis.com/v1beta".to_owned(),
        Api::AmazonBedrock => {
            let named = settings.provider_opts.get("region").and_then(|region| region.as_str());
            let region = named
                .or_else(|| environment.variable("AWS_REGION"))
                .or_else(|| environment.variable("AWS_DEFAULT_REGION"))
                .unwrap_or("us-east-1");
            format!("https://bedrock-runtime.{region}.amazonaws.com")
        }
        Api::DockerModelRunner => "http://127.0.0.1:12434/engines/v1".to_owned(),
    }
}

/// With a slash at the end, and for Anthropic with the version that its own library adds.
fn with_version(api: Api, url: &str) -> String {
    let bare = url.trim_end_matches('/');
    if api == Api::Anthropic && !bare.ends_with("/v1") {
        return format!("{bare}/v1/");
    }
    format!("{bare}/")
}

/// The wire. Whoever speaks OpenAI's language elsewhere speaks chat completions, unless the file says otherwise.
fn adapter(settings: &ModelSettings, elsewhere: bool) -> Result<AdapterKind, ModelError> {
    let refused =
        |detail: &str| ModelError::Refused { model: settings.reference(), detail: detail.to_owned() };
    match settings.api {
        Api::OpenaiResponses if elsewhere && !settings.provider_opts.contains_key("api_type") => {
            Ok(AdapterKind::OpenAI)
        }
        Api::OpenaiResponses => Ok(AdapterKind::OpenAIResp),
        Api::OpenaiChat | Api::DockerModelRunner => Ok(AdapterKind::OpenAI),
        Api::Anthropic => Ok(AdapterKind::Anthropic),
        Api::Google if settings.provider_opts.contains_key("project") => {
            Err(refused("Vertex is not supported here; use a GOOGLE_API_KEY"))
        }
        Api::Google => Ok(AdapterKind::Gemini),
        Api::AmazonBedrock => Ok(AdapterKind::BedrockApi),
        Api::Scripted => Err(refused("scripted models need a script (--script)")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn placed(reference: &str, base_url: Option<&str>, variables: &[(&str, &str)]) -> (String, AdapterKind) {
        let (provider, model) = reference.split_once('/').unwrap();
        let mut settings = ModelSettings::inline(provider, model).unwrap();
        if base_url.is_some() {
            settings.base_url = base_url.map(str::to_owned);
        }
        let keys = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "XAI_API_KEY"];
        let mut all: BTreeMap<String, String> = keys.map(|key| (key.to_owned(), "k".to_owned())).into();
        all.extend(variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        let target = target(&settings, "a", &Environment::new(all, "/".into())).unwrap();
        (target.endpoint.base_url().to_owned(), target.model.adapter_kind)
    }

    #[test]
    fn addresses_and_wires() {
        let openai = ("OPENAI_BASE_URL", "http://x/v1/");
        let anthropic = ("ANTHROPIC_BASE_URL", "http://y");
        let table = [
            ("openai/gpt-4o", None, None, "https://api.openai.com/v1/", AdapterKind::OpenAI),
            ("openai/gpt-5", None, None, "https://api.openai.com/v1/", AdapterKind::OpenAIResp),
            ("openai/gpt-5", None, Some(openai), "http://x/v1/", AdapterKind::OpenAI),
            ("openai/gpt-4o", Some("http://file/v1"), Some(openai), "http://file/v1/", AdapterKind::OpenAI),
            (
                "openai/m",
                Some("${env.HOST}/v1"),
                Some(("HOST", "http://h")),
                "http://h/v1/",
                AdapterKind::OpenAI,
            ),
            ("xai/grok", None, Some(openai), "https://api.x.ai/v1/", AdapterKind::OpenAI),
            ("anthropic/c", None, None, "https://api.anthropic.com/v1/", AdapterKind::Anthropic),
            ("anthropic/c", None, Some(anthropic), "http://y/v1/", AdapterKind::Anthropic),
            ("anthropic/c", Some("http://z/v1/"), None, "http://z/v1/", AdapterKind::Anthropic),
            (
                "google/g",
                None,
                None,
                "https://generativelanguage.googleapis.com/v1beta/",
                AdapterKind::Gemini,
            ),
            ("dmr/ai/qwen3", None, None, "http://127.0.0.1:12434/engines/v1/", AdapterKind::OpenAI),
        ];
        for (reference, base_url, variable, url, adapter) in table {
            let variables: Vec<_> = variable.into_iter().collect();
            assert_eq!(placed(reference, base_url, &variables), (url.to_owned(), adapter), "{reference}");
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
