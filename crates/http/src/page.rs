//! The web page: its files are in the program and are served to everyone. What they show is asked for with a token.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::routing::get;
use sha2::Digest as _;
use sha2::Sha256;

use crate::problem::Problem;

/// What a page may load: its own files, and nothing that is written into it. Trusted types forbid to make markup of text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
    trusted-types 'none'";

/// Headers of every file.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    // A browser asks whether its copy is still the one of this program.
    (header::CACHE_CONTROL, "no-cache"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// One file.
#[derive(Debug)]
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($name:literal, $kind:expr) => {
        Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!("../page/", $name)) }
    };
}

/// The page itself is the first.
static ASSETS: [Asset; 19] = [
    asset!("index.html", HTML),
    asset!("actions.js", SCRIPT),
    asset!("api.js", SCRIPT),
    asset!("app.css", STYLE),
    asset!("app.js", SCRIPT),
    asset!("charts.js", SCRIPT),
    asset!("fleet.js", SCRIPT),
    asset!("format.js", SCRIPT),
    asset!("icon.svg", "image/svg+xml"),
    asset!("job.js", SCRIPT),
    asset!("jobs.js", SCRIPT),
    asset!("questions.js", SCRIPT),
    asset!("transcript.js", SCRIPT),
    asset!("ui.js", SCRIPT),
    asset!("vendor/LICENSES", TEXT),
    asset!("vendor/preact.js", SCRIPT),
    asset!("vendor/sse.js", SCRIPT),
    asset!("vendor/uplot.css", STYLE),
    asset!("vendor/uplot.js", SCRIPT),
];

/// The entity tags of the files, in their order.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |asset: &Asset| {
        let digest = Sha256::digest(asset.bytes);
        let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("\"{hex}\"")
    };
    ASSETS.iter().map(tag).collect()
});

/// The routes of the page. They are not in the OpenAPI document: they are no operations.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(index)).route("/page/{*name}", get(file))
}

async fn index(headers: HeaderMap) -> Response {
    serve(0, &headers)
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS.iter().position(|asset| asset.name == name) {
        Some(place) => serve(place, &headers),
        None => Problem::new(StatusCode::NOT_FOUND, "not_found", "the page has no such file").into_response(),
    }
}

/// The file at a place of the list, or that the browser has it.
fn serve(place: usize, headers: &HeaderMap) -> Response {
    let (Some(asset), Some(tag)) = (ASSETS.get(place), TAGS.get(place)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut response = if known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, asset.kind)], asset.bytes).into_response()
    };
    for (name, value) in HEADERS.iter().chain([&(header::ETAG, tag.as_str())]) {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_others_is_as_it_was_recorded() {
        let checksums = include_str!("../page/vendor/checksums.txt");
        let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
        let found: Vec<String> = ASSETS
            .iter()
            .filter_map(|asset| Some((asset.name.strip_prefix("vendor/")?, asset.bytes)))
            .map(|(name, bytes)| format!("{}  {name}", hex(bytes)))
            .collect();
        let mut recorded: Vec<&str> = checksums.lines().collect();
        recorded.sort_by_key(|line| line.split("  ").nth(1));
        assert_eq!(found, recorded, "run scripts/vendor-page");
    }

    #[test]
    fn nothing_in_the_page_makes_markup_of_text_or_reaches_elsewhere() {
        for asset in ASSETS.iter().filter(|asset| !asset.name.starts_with("vendor/") && asset.kind != TEXT) {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            for word in [
                "innerHTML",
                "dangerouslySetInnerHTML",
                "insertAdjacentHTML",
                "eval(",
                "localStorage",
                "https://",
            ] {
                assert!(!text.contains(word), "{}: {word}", asset.name);
            }
        }
    }
}
