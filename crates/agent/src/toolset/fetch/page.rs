//! Converts a fetched page to the format that the model asked for. Pure.

use encoding_rs::Encoding;
use encoding_rs::UTF_8;
use html2text::Error;
use html2text::config;
use html2text::render::TextDecorator;
use html2text::render::TrivialDecorator;
use serde::Deserialize;

use super::depth;

/// The width at which converted lines wrap, in characters. Wide enough that most table rows stay whole.
const LINE_WIDTH: usize = 120;

/// The deepest nesting of elements that is converted, because the converter is slow, or fails, with deeper ones. Pages have
/// up to a hundred levels.
const MAX_DEPTH: usize = 500;

/// The format that HTML pages are converted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Text,
    Markdown,
    Html,
}

impl Format {
    /// The `Accept` header, as docker-agent sends it: a site that has its pages as Markdown or plain text sends those,
    /// which saves the conversion.
    pub(super) fn accept(self) -> &'static str {
        match self {
            Self::Text => "text/plain;q=1.0, text/markdown;q=0.9, text/html;q=0.8, */*;q=0.1",
            Self::Markdown => "text/markdown;q=1.0, text/plain;q=0.9, text/html;q=0.7, */*;q=0.1",
            Self::Html => "text/html;q=1.0, text/plain;q=0.8, */*;q=0.1",
        }
    }
}

/// The beginnings of common binary formats, whatever their content type.
const BINARY_MAGIC: &[&[u8]] = &[
    b"%PDF-",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"\x89PNG",
    b"GIF8",
    b"\xff\xd8\xff",
    b"\x7fELF",
    b"\xd0\xcf\x11\xe0",
];
/// Parts of content types whose bodies are text although they are not `text/…`.
const TEXT_TYPES: &[&str] =
    &["json", "xml", "html", "javascript", "ecmascript", "yaml", "toml", "x-www-form", "markdown"];
/// Content types, by their beginning, whose bodies are never text.
const BINARY_TYPES: &[&str] = &[
    "audio/",
    "font/",
    "video/",
    "application/gzip",
    "application/msword",
    "application/pdf",
    "application/vnd.ms-",
    "application/vnd.openxmlformats-",
    "application/wasm",
    "application/x-tar",
    "application/x-xz",
    "application/zip",
    "application/zstd",
];
/// Of this many characters one may be invalid or a control character in a body of an unknown type that counts as text.
const MIN_CHARS_PER_ODD_ONE: usize = 10;

/// A page as it was downloaded.
#[derive(Debug)]
pub(super) struct Page {
    /// The beginning of the body.
    pub(super) bytes: Vec<u8>,
    /// As the server declares it; may be empty.
    pub(super) content_type: String,
    /// The length of the whole body, where the server declares it.
    pub(super) total_bytes: Option<u64>,
}

/// The text of a page. Only HTML is converted, going by the content type, or by the first character where there is
/// none.
///
/// # Errors
///
/// The page is not text, which the sentence says with its type and size, or its HTML cannot be parsed.
pub(super) fn render(page: &Page, format: Format) -> Result<String, String> {
    let Page { bytes, content_type, total_bytes } = page;
    let text = decode(bytes, content_type);
    if !is_text(bytes, &text, content_type) {
        let size = total_bytes.unwrap_or(0).max(bytes.len() as u64);
        let name = if content_type.is_empty() { "unknown type" } else { content_type };
        return Err(format!("the content is not text and cannot be shown ({name}, {size} bytes)"));
    }
    let is_html =
        content_type.contains("html") || (content_type.is_empty() && text.trim_start().starts_with('<'));
    if is_html && format != Format::Html && depth::is_deeper_than(&text, MAX_DEPTH) {
        return Err(format!(
            "the page cannot be converted: its elements are nested more than {MAX_DEPTH} deep"
        ));
    }
    let converted = match format {
        Format::Text if is_html => {
            let config = config::with_decorator(TrivialDecorator::new()).link_footnotes(false);
            config.no_table_borders().allow_width_overflow().string_from_read(text.as_bytes(), LINE_WIDTH)
        }
        Format::Markdown if is_html => {
            let config = config::with_decorator(Markdown::default()).link_footnotes(false);
            let config = config.no_table_borders().allow_width_overflow().no_link_wrapping();
            config.string_from_read(text.as_bytes(), LINE_WIDTH)
        }
        Format::Text | Format::Markdown | Format::Html => return Ok(text),
    };
    converted.map_err(|error: Error| format!("the page cannot be converted: {error}"))
}

/// Whether the body is text, going by its beginning, its content type, and for an unknown type by its characters.
fn is_text(bytes: &[u8], text: &str, content_type: &str) -> bool {
    let name = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_declared_text = name.starts_with("text/") || TEXT_TYPES.iter().any(|part| name.contains(part));
    if text.contains('\0') || BINARY_MAGIC.iter().any(|magic| bytes.starts_with(magic)) {
        return false;
    }
    if is_declared_text {
        return true;
    }
    if name.starts_with("image/") || BINARY_TYPES.iter().any(|start| name.starts_with(start)) {
        return false;
    }
    let is_odd = |c: &char| *c == char::REPLACEMENT_CHARACTER || (c.is_control() && !c.is_whitespace());
    text.chars().filter(is_odd).count() * MIN_CHARS_PER_ODD_ONE <= text.chars().count()
}

/// Decodes the character set that the content type declares, UTF-8 by default. Invalid bytes are replaced.
fn decode(bytes: &[u8], content_type: &str) -> String {
    let label = content_type.to_ascii_lowercase();
    let label = label.split_once("charset=").map(|(_, label)| label.split(';').next().unwrap_or_default());
    let label = label.map(|label| label.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')));
    let encoding = label.and_then(|label| Encoding::for_label(label.as_bytes())).unwrap_or(UTF_8);
    encoding.decode(bytes).0.into_owned()
}

/// Renders HTML as Markdown.
#[derive(Debug, Clone, Default)]
struct Markdown {
    /// The targets of the links that are open, outermost first.
    open_links: Vec<String>,
}

/// Markup without an annotation, which this format has no use for.
fn mark(text: &str) -> (String, ()) {
    (text.to_owned(), ())
}

impl TextDecorator for Markdown {
    type Annotation = ();

    fn decorate_link_start(&mut self, url: &str) -> (String, ()) {
        self.open_links.push(url.to_owned());
        mark("[")
    }

    fn decorate_link_end(&mut self) -> String {
        format!("]({})", self.open_links.pop().unwrap_or_default())
    }

    fn decorate_em_start(&self) -> (String, ()) {
        mark("*")
    }

    fn decorate_em_end(&self) -> String {
        "*".to_owned()
    }

    fn decorate_strong_start(&self) -> (String, ()) {
        mark("**")
    }

    fn decorate_strong_end(&self) -> String {
        "**".to_owned()
    }

    fn decorate_strikeout_start(&self) -> (String, ()) {
        mark("~~")
    }

    fn decorate_strikeout_end(&self) -> String {
        "~~".to_owned()
    }

    fn decorate_code_start(&self) -> (String, ()) {
        mark("`")
    }

    fn decorate_code_end(&self) -> String {
        "`".to_owned()
    }

    fn decorate_preformat_first(&self) {}

    fn decorate_preformat_cont(&self) {}

    fn decorate_image(&mut self, source: &str, title: &str) -> (String, ()) {
        (format!("![{title}]({source})"), ())
    }

    fn header_prefix(&self, level: usize) -> String {
        "#".repeat(level) + " "
    }

    fn quote_prefix(&self) -> String {
        "> ".to_owned()
    }

    fn unordered_item_prefix(&self) -> String {
        "* ".to_owned()
    }

    fn ordered_item_prefix(&self, number: i64) -> String {
        format!("{number}. ")
    }

    fn make_subblock_decorator(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<html><head><title>Bats</title><style>p {}</style><script>alert(1)</script></head><body>\
        <h1>Bats</h1><p>They <b>sleep</b> <em>upside</em> down, <a href=\"/why?a=b\">says</a> <code>x</code>.</p>\
        <ul><li>one</li><li>two</li></ul><blockquote>So.</blockquote><img src=\"b.png\" alt=\"a bat\">\
        <table><tr><th>Name</th><th>Size</th></tr><tr><td>Pip</td><td>4</td></tr></table></body></html>";

    fn render_as(bytes: &[u8], content_type: &str, format: Format) -> Result<String, String> {
        let (bytes, content_type) = (bytes.to_owned(), content_type.to_owned());
        render(&Page { bytes, content_type, total_bytes: None }, format)
    }

    fn html(format: Format) -> String {
        render_as(PAGE.as_bytes(), "text/html; charset=utf-8", format).unwrap()
    }

    #[test]
    fn html_is_converted_to_every_format() {
        assert_eq!(html(Format::Html), PAGE);
        insta::assert_snapshot!("markdown", html(Format::Markdown));
        insta::assert_snapshot!("text", html(Format::Text));
    }

    #[test]
    fn other_text_is_decoded_and_kept() {
        for format in [Format::Text, Format::Markdown, Format::Html] {
            assert_eq!(
                render_as(b"{\"a\": \"<b>\"}", "application/json", format).unwrap(),
                "{\"a\": \"<b>\"}"
            );
        }
        let latin1 = render_as(b"a\xe4b", "text/plain; Charset=\"ISO-8859-1\"", Format::Text);
        assert_eq!(latin1.unwrap(), "aäb");
        assert_eq!(render_as(b"a\xe4b", "text/plain", Format::Text).unwrap(), "a\u{fffd}b");
        for unknown in ["", "application/octet-stream", "application/x-thing"] {
            assert_eq!(
                render_as(b"line one\nline two\n", unknown, Format::Text).unwrap(),
                "line one\nline two\n"
            );
        }
    }

    #[test]
    fn binary_content_is_one_sentence_with_its_type_and_size() {
        let image = render_as(b"\x89PNG\0\0", "image/png", Format::Text).unwrap_err();
        assert_eq!(image, "the content is not text and cannot be shown (image/png, 6 bytes)");
        let pdf = b"%PDF-1.7\nstream of text-like bytes without a NUL";
        let body = || Page {
            bytes: pdf.to_vec(),
            content_type: "application/pdf".into(),
            total_bytes: Some(5_000_000),
        };
        let whole = render(&body(), Format::Markdown).unwrap_err();
        assert_eq!(whole, "the content is not text and cannot be shown (application/pdf, 5000000 bytes)");
        for (bytes, content_type) in [
            (&pdf[..], "text/html"),
            (&pdf[..], ""),
            (b"abc", "application/zip"),
            (b"abc", "video/mp4"),
            (b"<svg/>", "image/jpeg"),
            (b"ab\x01\x02\xff\xfe\xf0cd", "application/octet-stream"),
        ] {
            assert!(render_as(bytes, content_type, Format::Text).is_err(), "{content_type}");
        }
        assert_eq!(render_as(b"<svg/>", "image/svg+xml", Format::Html).unwrap(), "<svg/>");
    }

    #[test]
    fn deeply_nested_pages_are_converted() {
        for tags in ["<table><tr><td>", "<ul><li>", "<a href='x'>", "<blockquote>"] {
            let page = tags.repeat(300);
            assert!(render_as(page.as_bytes(), "text/html", Format::Markdown).is_ok(), "{tags}");
        }
    }
}
