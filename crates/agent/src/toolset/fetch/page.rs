//! What was fetched, as the model wants it. Pure.

use encoding_rs::Encoding;
use encoding_rs::UTF_8;
use html2text::Error;
use html2text::config;
use html2text::render::TextDecorator;
use html2text::render::TrivialDecorator;
use serde::Deserialize;

/// Where lines of a page are broken.
const WIDTH: usize = 120;

/// What a page in HTML is turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Text,
    Markdown,
    Html,
}

/// The text of a page of the given content type; what is not HTML stays as it is.
///
/// # Errors
///
/// Why it cannot be shown.
pub(super) fn written(bytes: &[u8], kind: &str, format: Format) -> Result<String, String> {
    let text = decoded(bytes, kind);
    if text.contains('\0') {
        return Err(format!("the content ({kind}) is not text"));
    }
    let is_html = kind.contains("html") || (kind.is_empty() && text.trim_start().starts_with('<'));
    let shown = match format {
        Format::Text if is_html => {
            let config = config::with_decorator(TrivialDecorator::new()).link_footnotes(false);
            config.no_table_borders().allow_width_overflow().string_from_read(text.as_bytes(), WIDTH)
        }
        Format::Markdown if is_html => {
            let config = config::with_decorator(Markdown::default()).link_footnotes(false);
            let config = config.no_table_borders().allow_width_overflow().no_link_wrapping();
            config.string_from_read(text.as_bytes(), WIDTH)
        }
        Format::Text | Format::Markdown | Format::Html => return Ok(text),
    };
    shown.map_err(|error: Error| format!("the page cannot be read: {error}"))
}

/// The text in its character set, which is UTF-8 where nothing is said.
fn decoded(bytes: &[u8], kind: &str) -> String {
    let label = kind.to_ascii_lowercase();
    let label = label.split_once("charset=").map(|(_, label)| label.split(';').next().unwrap_or_default());
    let label = label.map(|label| label.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')));
    let encoding = label.and_then(|label| Encoding::for_label(label.as_bytes())).unwrap_or(UTF_8);
    encoding.decode(bytes).0.into_owned()
}

/// Writes Markdown.
#[derive(Debug, Clone, Default)]
struct Markdown {
    /// Where the links that are open lead.
    links: Vec<String>,
}

/// A mark and nothing more.
fn mark(text: &str) -> (String, ()) {
    (text.to_owned(), ())
}

impl TextDecorator for Markdown {
    type Annotation = ();

    fn decorate_link_start(&mut self, url: &str) -> (String, ()) {
        self.links.push(url.to_owned());
        mark("[")
    }

    fn decorate_link_end(&mut self) -> String {
        format!("]({})", self.links.pop().unwrap_or_default())
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

    fn html(format: Format) -> String {
        written(PAGE.as_bytes(), "text/html; charset=utf-8", format).unwrap()
    }

    #[test]
    fn pages_in_every_format() {
        assert_eq!(html(Format::Html), PAGE);
        insta::assert_snapshot!("markdown", html(Format::Markdown));
        insta::assert_snapshot!("text", html(Format::Text));
    }

    #[test]
    fn what_is_no_page() {
        for format in [Format::Text, Format::Markdown, Format::Html] {
            assert_eq!(written(b"{\"a\": \"<b>\"}", "application/json", format).unwrap(), "{\"a\": \"<b>\"}");
        }
        assert_eq!(written(b"a\xe4b", "text/plain; Charset=\"ISO-8859-1\"", Format::Text).unwrap(), "aäb");
        assert_eq!(written(b"a\xe4b", "text/plain", Format::Text).unwrap(), "a\u{fffd}b");
        let image = written(b"\x89PNG\0\0", "image/png", Format::Text).unwrap_err();
        assert_eq!(image, "the content (image/png) is not text");
    }

    #[test]
    fn hostile_pages_end() {
        for piece in ["<table><tr><td>", "<ul><li>", "<a href='x'>", "<blockquote>"] {
            let page = piece.repeat(300);
            assert!(written(page.as_bytes(), "text/html", Format::Markdown).is_ok(), "{piece}");
        }
    }
}
