//! Where spans go, from the standard variables of OpenTelemetry.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Debug;

use legwork_common::variables::OTEL_DISABLED;
use legwork_common::variables::OTEL_SERVICE_NAME;
use legwork_common::variables::OTLP_ENDPOINT;
use legwork_common::variables::OTLP_HEADERS;
use legwork_common::variables::OTLP_PROTOCOL;
use legwork_common::variables::OTLP_TRACES_ENDPOINT;
use legwork_common::variables::value;
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use reqwest::Url;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;

/// The only protocol that is spoken.
const PROTOCOL: &str = "http/protobuf";
/// The path of traces below the endpoint for all signals.
const TRACES_PATH: &str = "v1/traces";

/// Where spans go. The debug form has no headers: they may be secrets.
#[derive(Clone)]
pub struct SpanSettings {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) resource: Resource,
}

impl Debug for SpanSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanSettings").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

impl SpanSettings {
    /// The settings in an environment; `None` where it names no collector, or says `OTEL_SDK_DISABLED=true`. `program` is
    /// the name of the service where the environment has none.
    ///
    /// # Errors
    ///
    /// What is wrong with a variable, without its value: spans cannot be exported then.
    pub fn find(variables: &BTreeMap<String, String>, program: &str) -> Result<Option<Self>, String> {
        let set = |name| value(variables, name);
        if set(OTEL_DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let url = match (set(OTLP_TRACES_ENDPOINT), set(OTLP_ENDPOINT)) {
            (Some(text), _) => url(OTLP_TRACES_ENDPOINT, text)?,
            (None, Some(text)) => {
                url(OTLP_ENDPOINT, &format!("{}/{TRACES_PATH}", text.trim_end_matches('/')))?
            }
            (None, None) => return Ok(None),
        };
        if set(OTLP_PROTOCOL).is_some_and(|protocol| protocol != PROTOCOL) {
            return Err(format!("{OTLP_PROTOCOL} is not {PROTOCOL}, the only protocol that is supported"));
        }
        let name = set(OTEL_SERVICE_NAME).unwrap_or(program).to_owned();
        let resource = Resource::builder_empty()
            .with_service_name(name)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Some(Self { url, headers: headers(set(OTLP_HEADERS).unwrap_or_default())?, resource }))
    }
}

fn url(name: &str, text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{name} is not a URL: {error}"))?;
    let is_http = matches!(url.scheme(), "http" | "https");
    if is_http { Ok(url) } else { Err(format!("{name} is not an http or https URL")) }
}

/// `name=value` pairs, separated by commas, with percent-encoded values.
fn headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let wrong = || format!("{OTLP_HEADERS} is not a list of name=value");
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong())?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(&*value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pairs: &[(&str, &str)]) -> Result<Option<SpanSettings>, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        SpanSettings::find(&pairs.iter().map(owned).collect(), "legwork-worker")
    }

    #[test]
    fn traces_are_off_unless_a_collector_is_named() {
        for pairs in [
            &[][..],
            &[(OTLP_ENDPOINT, " ")],
            &[(OTEL_SERVICE_NAME, "x"), (OTLP_HEADERS, "a=b")],
            &[(OTLP_ENDPOINT, "http://localhost:4318"), (OTEL_DISABLED, "true")],
        ] {
            assert!(found(pairs).unwrap().is_none(), "{pairs:?}");
        }
    }

    #[test]
    fn the_endpoint_of_all_signals_gets_a_path_and_that_of_traces_does_not() {
        let url = |pairs: &[(&str, &str)]| found(pairs).unwrap().unwrap().url.to_string();
        let all = (OTLP_ENDPOINT, "http://localhost:4318/base/");
        assert_eq!(url(&[all]), "http://localhost:4318/base/v1/traces");
        assert_eq!(url(&[all, (OTLP_TRACES_ENDPOINT, "https://b.example/x")]), "https://b.example/x");
        assert_eq!(url(&[all, (OTLP_PROTOCOL, PROTOCOL)]), "http://localhost:4318/base/v1/traces");
    }

    #[test]
    fn headers_are_decoded_and_not_shown() {
        let all = (OTLP_ENDPOINT, "http://localhost:4318");
        let settings =
            found(&[all, (OTLP_HEADERS, "authorization=Bearer%20canary, x-team = a")]).unwrap().unwrap();
        assert_eq!(settings.headers["authorization"], "Bearer canary");
        assert_eq!(settings.headers["x-team"], "a");
        assert!(!format!("{settings:?}").contains("canary"));
    }

    #[test]
    fn wrong_settings_are_named_without_their_values() {
        let all = (OTLP_ENDPOINT, "http://localhost:4318");
        for pairs in [
            vec![(OTLP_ENDPOINT, "canary")],
            vec![(OTLP_ENDPOINT, "ftp://canary")],
            vec![all, (OTLP_PROTOCOL, "grpc")],
            vec![all, (OTLP_HEADERS, "canary")],
            vec![all, (OTLP_HEADERS, "a b=canary")],
        ] {
            let error = found(&pairs).unwrap_err();
            assert!(error.starts_with("OTEL_") && !error.contains("canary"), "{error}");
        }
    }
}
