//! What a site's robots.txt allows (RFC 9309). Pure.

/// Who we are to such a file.
const NAME: &str = "legwork";

/// The rules that are meant for us; none allow everything.
#[derive(Debug, Default)]
pub(super) struct Robots {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    allow: bool,
    pattern: String,
}

impl Robots {
    /// Reads the file: the groups that name us, or else those for everybody.
    pub(super) fn parse(text: &str) -> Self {
        let (mut ours, mut everybodys) = (None, Vec::new());
        let (mut for_us, mut for_all) = (false, false);
        let mut in_rules = true;
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.split('#').next().unwrap_or_default();
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "user-agent" => {
                    if std::mem::take(&mut in_rules) {
                        (for_us, for_all) = (false, false);
                    }
                    for_us |= value.eq_ignore_ascii_case(NAME);
                    for_all |= value == "*";
                    if for_us {
                        ours.get_or_insert_with(Vec::new);
                    }
                }
                key @ ("allow" | "disallow") => {
                    in_rules = true;
                    // An empty pattern says nothing: `Disallow:` allows all.
                    if value.is_empty() {
                        continue;
                    }
                    let rule = Rule { allow: key == "allow", pattern: value.to_owned() };
                    if let Some(ours) = ours.as_mut().filter(|_| for_us) {
                        ours.push(rule.clone());
                    }
                    if for_all {
                        everybodys.push(rule);
                    }
                }
                _ => {}
            }
        }
        Self { rules: ours.unwrap_or(everybodys) }
    }

    /// Whether a path with its query may be fetched: the longest rule that fits says so, and of two the kinder.
    pub(super) fn allow(&self, path: &str) -> bool {
        let fitting = self.rules.iter().filter(|rule| fits(&rule.pattern, path));
        fitting.max_by_key(|rule| (rule.pattern.len(), rule.allow)).is_none_or(|rule| rule.allow)
    }
}

/// Whether a pattern fits the beginning of a path; `*` stands for anything, a `$` at the end for the end.
fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, whole) = match pattern.strip_suffix('$') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, between)) = pieces.split_last() else { return !whole || rest.is_empty() };
    for piece in between {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    if whole { rest.ends_with(last) } else { rest.contains(last) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn groups_and_the_longest_rule() {
        let file = "\u{feff}# hello\nUser-agent: other\nDisallow: /\n\nUser-Agent: *\nDisallow: /private # all of it\n\
                    Allow: /private/open\nDisallow: /*.pdf$\nDisallow: /a*b/c\nDisallow:\nSitemap: x\n";
        let robots = Robots::parse(file);
        for (path, expected) in [
            ("/", true),
            ("/private", false),
            ("/private/x?y", false),
            ("/private/open/x", true),
            ("/x.pdf", false),
            ("/x.pdf?download", true),
            ("/axxb/c/d", false),
            ("/axxb/d", true),
        ] {
            assert_eq!(robots.allow(path), expected, "{path}");
        }
    }

    #[test]
    fn a_group_of_our_own_counts_alone() {
        let ours =
            Robots::parse("User-agent: x\nUser-agent: LegWork\nDisallow: /x\n\nUser-agent: *\nDisallow: /\n");
        assert!(ours.allow("/y") && !ours.allow("/x"));
        let free = Robots::parse("User-agent: *\nDisallow: /\nUser-agent: legwork\nDisallow:\n");
        assert!(free.allow("/y"));
        assert!(!Robots::parse("user-agent:*\ndisallow:/").allow("/"));
        assert!(Robots::parse("<html>no file: at all</html>").allow("/"));
        let tie = Robots::parse("User-agent: *\nDisallow: /a\nAllow: /a");
        assert!(tie.allow("/a"));
    }

    proptest! {
        #[test]
        fn any_file_can_be_read(text in "[ -~äöü\n*$:#]{0,200}", path in "/[ -~ä]{0,20}") {
            Robots::parse(&text).allow(&path);
            Robots::parse(&format!("User-agent: *\nDisallow: {text}")).allow(&path);
        }
    }
}
