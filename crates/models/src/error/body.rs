//! What the body of an error says, in whichever form a provider has for it.

use std::time::Duration;

use serde_json::Value;

use super::retry_after;
use crate::json;

/// What an error says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Codes and types, the most telling first; numbers as text.
    pub(super) names: Vec<String>,
    /// Its words, of any length.
    pub(super) words: String,
    /// How long to wait, where a field says so.
    pub(super) retry_after: Option<Duration>,
    /// Whether it is a page for people.
    pub(super) is_page: bool,
}

impl Said {
    /// What any body says.
    pub(super) fn in_body(body: &str) -> Self {
        let body = body.trim_start_matches('\u{feff}').trim();
        if body.starts_with('<') {
            return Self { words: words_of_page(body), is_page: true, ..Self::default() };
        }
        match json::parse(body) {
            Ok(document) => Self::in_error_document(&document).unwrap_or_else(|| Self::in_object(&document)),
            Err(_) => Self { words: body.to_owned(), ..Self::default() },
        }
    }

    /// What a document says that is an error by its form; none for one that may be a reply.
    pub(super) fn in_error_document(document: &Value) -> Option<Self> {
        let document = match document {
            Value::Array(all) => all.first()?,
            other => other,
        };
        let inner = match &document["error"] {
            Value::Null | Value::Bool(false) => match document["errors"].as_array() {
                Some(errors) => errors.first()?,
                None if is_bare_error(document) => document,
                None => return None,
            },
            inner => inner,
        };
        let mut said = Self::in_object(inner);
        if !inner.is_object() {
            // The error is its words alone, and what names it is next to them.
            said.names.extend(names(document));
        }
        if said.words.is_empty() {
            said.words = text(&document["message"]).unwrap_or_default();
        }
        Some(said.unwrapped())
    }

    /// What another body says that stands in the place of the words, as gateways hand it on.
    fn unwrapped(mut self) -> Self {
        let inner = Some(self.words.as_str()).filter(|words| words.starts_with(['{', '[']));
        let inner = inner.and_then(|words| json::parse(words).ok());
        // Only one level: a body cannot make this recurse.
        let Some(error) =
            inner.as_ref().and_then(|document| document.pointer("/error").or(document.pointer("/0/error")))
        else {
            return self;
        };
        let said = Self::in_object(error);
        self.names.extend(said.names);
        if !said.words.is_empty() {
            self.words = said.words;
        }
        self.retry_after = self.retry_after.or(said.retry_after);
        self
    }

    /// What an object says, or a text.
    fn in_object(inner: &Value) -> Self {
        let mut names: Vec<String> = names(inner).collect();
        let base = &inner["base_resp"];
        names.extend(named(&base["status_code"]));
        let details = inner["details"].as_array().map(Vec::as_slice).unwrap_or_default();
        let violations = details.iter().filter_map(|detail| detail["violations"].as_array()).flatten();
        names.extend(violations.filter_map(|violation| text(&violation["quotaId"])));
        let delay = details.iter().find_map(|detail| detail["retryDelay"].as_str());
        let words = inner.as_str().map(str::to_owned).or_else(|| {
            // A router's own message says less than what the provider behind it said.
            let raw = text(&inner["metadata"]["raw"]).map(|raw| raw_words(&raw));
            let says = ["message", "Message", "detail", "error_msg", "msg", "error"]
                .iter()
                .find_map(|key| text(&inner[*key]));
            let listed = text(&inner["detail"][0]["msg"]);
            raw.or(says).or(listed).or_else(|| text(&base["status_msg"]))
        });
        let seconds = ["retry_after", "retryAfter"].iter().find_map(|field| inner[*field].as_f64());
        let seconds = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let retry_after = delay.and_then(retry_after::duration).or(seconds);
        Self { names, words: words.unwrap_or_default(), retry_after, is_page: false }
    }
}

/// The names that an object has for what went wrong.
fn names(inner: &Value) -> impl Iterator<Item = String> {
    let fields = ["code", "status", "type", "__type", "error_code", "statusCode", "status_code"];
    fields
        .into_iter()
        .filter_map(|field| named(&inner[field]))
        .filter(|name| name != "error" && name != "failed")
}

/// An error that is not wrapped: one that says so by its type, or the status of a gateway.
fn is_bare_error(document: &Value) -> bool {
    let failed = document["base_resp"]["status_code"].as_i64().is_some_and(|code| code != 0);
    let called = ["type", "object"].iter().any(|key| document[*key] == "error");
    let only_words = document["choices"].is_null()
        && document["type"].is_null()
        && ["message", "Message", "detail", "error_msg"].iter().any(|key| text(&document[*key]).is_some());
    failed || called || only_words
}

/// The words in what another provider said, which may be a body of its own.
fn raw_words(raw: &str) -> String {
    let said = json::parse(raw).ok().as_ref().and_then(Said::in_error_document);
    said.map(|said| said.words).filter(|words| !words.is_empty()).unwrap_or_else(|| raw.to_owned())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn named(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        other => text(other),
    }
}

/// The title of a page, or the beginning of its text.
fn words_of_page(page: &str) -> String {
    let page: String = page.chars().take(4000).collect();
    let lower = page.to_ascii_lowercase();
    if let Some(start) = lower.find("<title>")
        && let Some(length) = lower[start..].find("</title>")
    {
        return page[start + "<title>".len()..start + length].trim().to_owned();
    }
    let mut inside = false;
    let visible = page.chars().filter(|&c| {
        inside = c == '<' || inside && c != '>';
        !inside && c != '>'
    });
    visible.collect::<String>().trim().to_owned()
}
