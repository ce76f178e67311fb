//! Where a model is, by which key it is reached, and which wire it speaks. Pure.

use legwork_common::team::Api;
use legwork_common::team::MissingVariable;
use legwork_common::team::ModelSettings;
use legwork_common::team::expand_address;
use sha2::Digest as _;
use sha2::Sha256;

use super::signature;
use super::signature::Signer;
use super::wires::WireKind;
use crate::environment::Environment;
use crate::model::ModelError;

/// The provider whose addresses and keys are written in another way.
const AZURE: &str = "azure";
/// The version of Azure's interface where the file names none.
const AZURE_VERSION: &str = "2024-10-21";
/// The error where Vertex is configured with an API key.
const VERTEX_TOKEN: &str = "Vertex takes no API key: name with `token_key` a variable that holds an access token, such as that of `gcloud auth print-access-token`";
/// The region of AWS where neither the file nor the environment names one.
const USUAL_REGION: &str = "us-east-1";
/// Enough that two of a fleet's providers are never taken for one, and far too few to find a key by.
const DIGEST_BYTES: usize = 8;
/// Sent as the key where a provider needs none.
const NO_KEY: &str = "none";

/// The address, the key and the wire.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) wire: WireKind,
    /// What the path of a request follows, with a slash at the end.
    base: String,
    /// What follows the path, with its question mark; may be empty.
    query: String,
    pub(super) access: Access,
}

/// What a request proves with that it may be made.
#[derive(Debug)]
pub(super) enum Access {
    /// A header, its name in lower case, and its value.
    Header(&'static str, String),
    /// A signature of the request.
    Signature(Signer),
}

impl Target {
    /// The address of a request with this path.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}{}", self.base, self.query)
    }

    /// Stands for the address and the key. Too short to tell either.
    pub(super) fn digest(&self) -> String {
        let key = match &self.access {
            Access::Header(_, key) => key.as_str(),
            Access::Signature(signer) => signer.key_id(),
        };
        let mut digest = Sha256::new();
        for part in [&self.base, &self.query, key] {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        let digest = digest.finalize();
        digest[..DIGEST_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The address, the key and the wire of a model.
pub(super) fn target(
    settings: &ModelSettings,
    agent: &str,
    environment: &Environment,
) -> Result<Target, ModelError> {
    let missing = |variable: String| ModelError::MissingKey {
        agent: agent.to_owned(),
        variable,
        model: settings.reference(),
    };
    let found = settings.token_keys.iter().find_map(|name| Some((name, environment.variable(name)?)));
    if found.is_none() && settings.needs_key() {
        return Err(missing(settings.token_keys.join(" or ")));
    }
    let wire = wire_of(settings, environment)?;
    let elsewhere = elsewhere(settings, environment).map_err(|unset| missing(unset.name))?;
    let url = elsewhere.unwrap_or_else(|| usual_place(settings, environment));
    let key = found.map_or(NO_KEY, |(_, key)| key);
    if settings.provider == AZURE {
        let (base, query) = azure(settings, &url, wire);
        return Ok(Target { wire, base, query, access: Access::Header("api-key", key.to_owned()) });
    }
    let access = match wire {
        WireKind::BedrockConverse if found.is_some_and(|(name, _)| name == signature::KEY_ID) => {
            let signer = Signer::new(environment, region(settings, environment));
            Access::Signature(signer.ok_or_else(|| missing(signature::SECRET.to_owned()))?)
        }
        WireKind::Anthropic => Access::Header("x-api-key", key.to_owned()),
        WireKind::Gemini if !is_vertex(settings) => Access::Header("x-goog-api-key", key.to_owned()),
        WireKind::Gemini | WireKind::OpenaiChat | WireKind::OpenaiResponses | WireKind::BedrockConverse => {
            Access::Header("authorization", format!("Bearer {key}"))
        }
    };
    Ok(Target { wire, base: with_version(settings, &url), query: String::new(), access })
}

/// The wire of a model, which may depend on its address.
pub(super) fn wire_of(settings: &ModelSettings, environment: &Environment) -> Result<WireKind, ModelError> {
    // An address whose variable is not set is an address all the same.
    wire(settings, elsewhere(settings, environment).map_or(true, |url| url.is_some()))
}

/// The region of AWS.
fn region<'a>(settings: &'a ModelSettings, environment: &'a Environment) -> &'a str {
    settings
        .option("region")
        .or_else(|| environment.variable("AWS_REGION"))
        .or_else(|| environment.variable("AWS_DEFAULT_REGION"))
        .unwrap_or(USUAL_REGION)
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
///
/// # Errors
///
/// The variable of the file's address that is not set: without it, a prompt would go to another place than the file's.
fn elsewhere(settings: &ModelSettings, environment: &Environment) -> Result<Option<String>, MissingVariable> {
    let value = |name: &str| environment.variable(name).map(str::to_owned);
    if let Some(url) = settings.base_url.as_deref().filter(|url| !url.trim().is_empty()) {
        return expand_address(url, value).map(Some);
    }
    Ok(match (settings.api, settings.provider.as_str()) {
        (Api::AmazonBedrock, _) => settings.option("endpoint_url").map(str::to_owned),
        (Api::OpenaiChat | Api::OpenaiResponses, "openai") => value("OPENAI_BASE_URL"),
        (Api::Anthropic, "anthropic") => value("ANTHROPIC_BASE_URL"),
        (Api::DockerModelRunner, _) => {
            value("MODEL_RUNNER_HOST").map(|host| format!("{}/engines/v1", host.trim_end_matches('/')))
        }
        _ => None,
    })
}

/// The provider's own address.
fn usual_place(settings: &ModelSettings, environment: &Environment) -> String {
    match settings.api {
        Api::OpenaiChat | Api::OpenaiResponses | Api::Scripted => "https://api.openai.com/v1".to_owned(),
        Api::AmazonBedrock => {
            format!("https://bedrock-runtime.{}.amazonaws.com", region(settings, environment))
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
        Api::AmazonBedrock => Ok(WireKind::BedrockConverse),
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
        let keys = [
            "OPENAI_API_KEY",
            "ANTHROPIC_API_KEY",
            "GEMINI_API_KEY",
            "XAI_API_KEY",
            "AWS_BEARER_TOKEN_BEDROCK",
        ];
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
            (
                "amazon-bedrock/a:0",
                None,
                Some(("AWS_REGION", "eu-west-1")),
                "https://bedrock-runtime.eu-west-1.amazonaws.com/",
                WireKind::BedrockConverse,
            ),
            ("amazon-bedrock/a:0", Some("http://z"), None, "http://z/", WireKind::BedrockConverse),
            ("dmr/ai/qwen3", None, None, "http://127.0.0.1:12434/engines/v1/", WireKind::OpenaiChat),
        ];
        for (reference, base_url, variable, url, wire) in table {
            let variables: Vec<_> = variable.into_iter().collect();
            assert_eq!(placed(reference, base_url, &variables), (url.to_owned(), wire), "{reference}");
        }
    }

    #[test]
    fn an_address_with_an_unset_variable_is_refused_and_never_replaced() {
        let mut settings = ModelSettings::inline("openai", "gpt-4o").unwrap();
        for (base_url, variable) in [("${env.MY_BASE_URL}", "MY_BASE_URL"), ("http://${env.HOST}/v1", "HOST")]
        {
            settings.base_url = Some(base_url.to_owned());
            for value in [None, Some("")] {
                let mut variables = BTreeMap::from([("OPENAI_API_KEY".to_owned(), "k".to_owned())]);
                variables.insert("OPENAI_BASE_URL".to_owned(), "http://elsewhere".to_owned());
                variables.extend(value.map(|value| (variable.to_owned(), value.to_owned())));
                let error = target(&settings, "root", &Environment::new(variables, "/".into())).unwrap_err();
                let expected = format!(
                    "agent `root` needs the environment variable {variable} for openai/gpt-4o, and it is not set"
                );
                assert_eq!(error.to_string(), expected);
            }
        }
    }

    #[test]
    fn accounts_differ_by_address_and_key_and_show_neither() {
        let digest = |base: Option<&str>, key: &str| {
            let mut settings = ModelSettings::inline("openai", "m").unwrap();
            settings.base_url = base.map(str::to_owned);
            let key = BTreeMap::from([("OPENAI_API_KEY".to_owned(), key.to_owned())]);
            target(&settings, "a", &Environment::new(key, "/".into())).unwrap().digest()
        };
        let digests = [digest(None, "k"), digest(None, "l"), digest(Some("http://x/v1"), "k")];
        assert_eq!(digest(Some("https://api.openai.com/v1/"), "k"), digests[0], "the same address");
        assert_ne!(digests[0], digests[1]);
        assert_ne!(digests[0], digests[2]);
        assert!(digests.iter().all(|digest| digest.len() == 16), "{digests:?}");
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
