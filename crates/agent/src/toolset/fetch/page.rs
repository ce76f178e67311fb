//! Converts a fetched page to the format that the model asked for. Pure.

use encoding_rs::Encoding;
use encoding_rs::UTF_8;
use html2text::Error;
use html2text::config;
use html2text::render::TextDecorator;
use html2text::render::TrivialDecorator;
use serde::Deserialize;

/// The width at which converted lines wrap, in characters. Wide enough that most table rows stay whole.
const LINE_WIDTH: usize = 120;

/// The format that HTML pages are converted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Text,
    Markdown,
    Html,
}

/// The text of a page. Only HTML is converted, going by the content type, or by the first character where there is
/// none.
///
/// # Errors
///
/// The page contains a NUL byte, so it is not text, or its HTML cannot be parsed.
pub(super) fn render(bytes: &[u8], content_type: &str, format: Format) -> Result<String, String> {
    let text = decode(bytes, content_type);
    if text.contains('\0') {
        return Err(format!("the content ({content_type}) is not text"));
    }
    let is_html =
        content_type.contains("html") || (content_type.is_empty() && text.trim_start().starts_with('<'));
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

    fn html(format: Format) -> String {
        render(PAGE.as_bytes(), "text/html; charset=utf-8", format).unwrap()
    }

    #[test]
    fn html_is_converted_to_every_format() {
        assert_eq!(html(Format::Html), PAGE);
        insta::assert_snapshot!("markdown", html(Format::Markdown));
        insta::assert_snapshot!("text", html(Format::Text));
    }

    #[test]
    fn other_text_is_decoded_and_kept_and_binary_content_is_refused() {
        for format in [Format::Text, Format::Markdown, Format::Html] {
            assert_eq!(render(b"{\"a\": \"<b>\"}", "application/json", format).unwrap(), "{\"a\": \"<b>\"}");
        }
        assert_eq!(render(b"a\xe4b", "text/plain; Charset=\"ISO-8859-1\"", Format::Text).unwrap(), "aäb");
        assert_eq!(render(b"a\xe4b", "text/plain", Format::Text).unwrap(), "a\u{fffd}b");
        let image = render(b"\x89PNG\0\0", "image/png", Format::Text).unwrap_err();
        assert_eq!(image, "the content (image/png) is not text");
    }

    #[test]
    fn deeply_nested_pages_are_converted() {
        for tags in ["<table><tr><td>", "<ul><li>", "<a href='x'>", "<blockquote>"] {
            let page = tags.repeat(300);
            assert!(render(page.as_bytes(), "text/html", Format::Markdown).is_ok(), "{tags}");
        }
    }
}
