//! How deeply the elements of an HTML page are nested, as far as that can be told without parsing it. Pure.

use std::collections::HashMap;

/// Elements without content, and those that the next one of their kind closes: they cannot be nested without others.
const FLAT: [&str; 29] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr", "p", "li", "dt", "dd", "option", "optgroup", "tr", "td", "th", "tbody", "thead", "tfoot",
    "colgroup", "rt", "rp",
];
/// Elements whose content is text, whatever it looks like.
const TEXT: [&str; 5] = ["script", "style", "textarea", "title", "noscript"];

/// Whether elements are nested more than `max` deep. Elements that are never closed count as nested.
pub(super) fn is_deeper_than(html: &str, max: usize) -> bool {
    let mut open: HashMap<String, usize> = HashMap::new();
    let (mut depth, mut rest) = (0, html);
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        let (closes, tag) = rest.strip_prefix('/').map_or((false, rest), |tag| (true, tag));
        let length = tag.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(tag.len());
        let name = tag[..length].to_ascii_lowercase();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || FLAT.contains(&name.as_str()) {
            continue;
        }
        let count = open.entry(name.clone()).or_default();
        if closes {
            depth -= usize::from(*count > 0);
            *count = count.saturating_sub(1);
        } else if TEXT.contains(&name.as_str()) {
            rest = after_text(tag, &name);
        } else {
            (*count, depth) = (*count + 1, depth + 1);
            if depth > max {
                return true;
            }
        }
    }
    false
}

/// What follows the end of an element whose content is text.
fn after_text<'html>(tag: &'html str, name: &str) -> &'html str {
    let ends = tag.match_indices("</").map(|(at, _)| &tag[at + 2..]);
    let mut ends =
        ends.filter(|end| end.get(..name.len()).is_some_and(|word| word.eq_ignore_ascii_case(name)));
    ends.next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_elements_are_counted_and_flat_ones_are_not() {
        for (html, depth) in [
            ("<div><div><DIV>", 3),
            ("<div></div><div></div>", 1),
            ("</b></b><b>", 1),
            ("<p>a<p>b<br><li>c<li>d<img><td>", 0),
            ("<script>if (a<b) { '<div><div>' }</script><div>", 1),
            ("<!-- <div><div><div> --><div>", 1),
            ("<a <b 1 < 2 <<i", 3),
            ("<script><div><div>", 0),
        ] {
            assert!(!is_deeper_than(html, depth), "{html}");
            assert!(depth == 0 || is_deeper_than(html, depth - 1), "{html}");
        }
        assert!(is_deeper_than(&"<b>".repeat(100_000), 500));
    }
}
