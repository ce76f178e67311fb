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

/// The provider whose addresses and keys are written in another way.
const AZURE: &str = "azure";
/// The version of Azure's interface where the file names none.
const AZURE_VERSION: &str = "2024-10-21";
/// The feature of Anthropic's interface that thinks between tool calls.
const INTERLEAVED: &str = "interleaved-thinking-2025-05-14";
/// The error where Vertex is configured with an API key.
const VERTEX_TOKEN: &str = "Vertex takes no API key: name with `token_key` a variable that holds an access token, such as that of `gcloud auth print-access-token`";
/// Sent as the key where a provider needs none.
const NO_KEY: &str = "none";

/// The address, the key and the wire.
pub(super) fn target(
    settings: &ModelSettings,
    agent: &str,
    environment: &Environment,
) -> Result<ServiceTarget, ModelError> {
    let key = settings.token_keys.iter().find_map(|name| environment.variable(name));
    if key.is_none() && settings.needs_key() {
        return Err(ModelError::MissingKey {
            agent: agent.to_owned(),
            variable: settings.token_keys.join(" or "),
            model: settings.reference(),
        });
    }
    let elsewhere = elsewhere(settings, environment);
    let adapter = adapter(settings, elsewhere.is_some())?;
    let url = elsewhere.unwrap_or_else(|| usual_place(settings, environment));
    let key = key.unwrap_or(NO_KEY);
    let auth = match settings.provider.as_str() {
        AZURE => azure(settings, &url, key),
        _ => AuthData::from_single(key),
    };
    Ok(ServiceTarget {
        endpoint: Endpoint::from_owned(with_version(settings.api, &url)),
        auth,
        model: ModelIden::new(adapter, settings.model.as_str()),
    })
}

/// Headers in addition to those of the wire: a beta feature of Anthropic must be requested.
pub(super) fn headers(settings: &ModelSettings) -> Vec<(String, String)> {
    let interleaved = settings.api == Api::Anthropic && settings.has_option("interleaved_thinking");
    interleaved.then(|| ("anthropic-beta".to_owned(), INTERLEAVED.to_owned())).into_iter().collect()
}

/// Azure's address and key: the path of the deployment, which is named like the model, is added to the address of
/// the resource; an address with a path below `/openai` is used as it is.
fn azure(settings: &ModelSettings, url: &str, key: &str) -> AuthData {
    let bare = url.trim_end_matches('/');
    let version = settings.option("api_version");
    let beyond_scheme = bare.split_once("://").map_or(bare, |(_, rest)| rest);
    let (place, version) = if beyond_scheme.contains("/openai") {
        (bare.to_owned(), version)
    } else {
        // As the original does: names of deployments have neither dots nor colons.
        let deployment = settings.model.replace(['.', ':'], "");
        (format!("{bare}/openai/deployments/{deployment}"), version.or(Some(AZURE_VERSION)))
    };
    let query = version.map(|version| format!("?api-version={version}")).unwrap_or_default();
    let headers = vec![("api-key".to_owned(), key.to_owned())];
    AuthData::RequestOverride { url: format!("{place}/chat/completions{query}"), headers: headers.into() }
}

/// The address that the file or the environment gives.
fn elsewhere(settings: &ModelSettings, environment: &Environment) -> Option<String> {
    let value = |name: &str| environment.variable(name).map(str::to_owned);
    if let Some(url) = &settings.base_url {
        return Some(expand_template(url, value)).filter(|url| !url.is_empty());
    }
    match (settings.api, settings.provider.as_str()) {
        (Api::AmazonBedrock, _) => settings.option("endpoint_url").map(str::to_owned),
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
        Api::AmazonBedrock => {
            let region = settings
                .option("region")
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

/// The wire. OpenAI-compatible servers at other addresses are expected to speak chat completions, unless the file
/// sets `api_type`.
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
        Api::Google if settings.option("project").is_some() => {
            let by_key = settings.token_keys.iter().any(|name| name == "GOOGLE_API_KEY");
            if by_key { Err(refused(VERTEX_TOKEN)) } else { Ok(AdapterKind::Vertex) }
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
    fn a_resource_of_azure_may_be_called_openai() {
        let settings = ModelSettings::inline("openai", "gpt-4.1").unwrap();
        let deployment = "openai/deployments/gpt-41/chat/completions?api-version=2024-10-21";
        let table = [
            ("https://openai-east.example/", format!("https://openai-east.example/{deployment}")),
            ("https://east.example", format!("https://east.example/{deployment}")),
            ("https://openai.example/openai/v1/", "https://openai.example/openai/v1/chat/completions".into()),
        ];
        for (url, expected) in table {
            match azure(&settings, url, "k") {
                AuthData::RequestOverride { url, .. } => assert_eq!(url, expected),
                other => panic!("{other:?}"),
            }
        }
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
