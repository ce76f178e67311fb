//! What a site's robots.txt allows (RFC 9309). Pure.

/// The user agent whose group applies to this program.
const USER_AGENT: &str = "legwork";

/// The rules that apply to this program. Without any, everything is allowed.
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
    /// Reads a file: the groups that name this program, else the groups for all. Lines that cannot be read are skipped.
    pub(super) fn parse(text: &str) -> Self {
        let (mut ours, mut general) = (None, Vec::new());
        // Consecutive `User-agent` lines start one group; the first after a rule starts a new one.
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
                    for_us |= value.eq_ignore_ascii_case(USER_AGENT);
                    for_all |= value == "*";
                    if for_us {
                        ours.get_or_insert_with(Vec::new);
                    }
                }
                key @ ("allow" | "disallow") => {
                    in_rules = true;
                    // An empty pattern matches nothing: `Disallow:` allows everything.
                    if value.is_empty() {
                        continue;
                    }
                    let rule = Rule { allow: key == "allow", pattern: value.to_owned() };
                    if let Some(ours) = ours.as_mut().filter(|_| for_us) {
                        ours.push(rule.clone());
                    }
                    if for_all {
                        general.push(rule);
                    }
                }
                _ => {}
            }
        }
        Self { rules: ours.unwrap_or(general) }
    }

    /// Whether a path with its query may be fetched. The longest matching rule decides; of two equally long ones,
    /// `Allow`.
    pub(super) fn allow(&self, path: &str) -> bool {
        let matching = self.rules.iter().filter(|rule| matches(&rule.pattern, path));
        matching.max_by_key(|rule| (rule.pattern.len(), rule.allow)).is_none_or(|rule| rule.allow)
    }
}

/// Whether a pattern matches the beginning of a path. `*` matches anything, and a final `$` the end of the path.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, is_anchored) = match pattern.strip_suffix('$') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return !is_anchored || rest.is_empty() };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    if is_anchored { rest.ends_with(last) } else { rest.contains(last) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_matching_rule_of_the_group_decides() {
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
    fn a_group_that_names_this_program_replaces_the_general_one() {
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
        fn any_file_and_path_are_handled_without_a_panic(text in "[ -~äöü\n*$:#]{0,200}", path in "/[ -~ä]{0,20}") {
            Robots::parse(&text).allow(&path);
            Robots::parse(&format!("User-agent: *\nDisallow: {text}")).allow(&path);
        }
    }
}
