//! The table of keys for people: as Markdown, for `docs/compatibility.md`, and by name, for `legwork check --explain`.

use super::keys;
use super::keys::Keys;
use super::keys::NEWEST_VERSION;
use super::keys::Support;
use super::names::closest;

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The map that has the key, with its article: `an agent`.
    pub map: &'static str,
    /// The key, or a value that has a row of its own, such as the type of a toolset.
    pub key: &'static str,
    /// What Legwork does with it.
    pub support: Support,
    /// The limits, what happens instead, or what to do; may be empty.
    pub note: &'static str,
    /// The first version of the schema that has the key; 0 for keys of which nothing depends on it.
    pub first_version: u8,
    /// The last version of the schema that has the key; `None` for the newest.
    pub last_version: Option<u8>,
}

impl Row {
    /// What happens, preceded by the versions that have the key where the newest does not; may be empty.
    #[must_use]
    pub fn what_happens(&self) -> String {
        let versions = match (self.first_version, self.last_version) {
            (_, None) => return self.note.to_owned(),
            (first, Some(last)) if first == last => format!("in version {last}"),
            (0, Some(last)) => format!("up to version {last}"),
            (first, Some(last)) => format!("in versions {first} to {last}"),
        };
        if self.note.is_empty() { versions } else { format!("{versions}; {}", self.note) }
    }
}

/// All rows, in the order of the documentation.
pub fn rows() -> impl Iterator<Item = Row> {
    keys::ALL.iter().flat_map(|keys| rows_of(keys))
}

fn rows_of(keys: &'static Keys) -> impl Iterator<Item = Row> {
    keys.keys.iter().map(|key| Row {
        map: keys.noun,
        key: key.name,
        support: key.support,
        note: key.note,
        first_version: key.first_version,
        last_version: key.last_version,
    })
}

/// The tables of `docs/compatibility.md`: for each map a heading, and a row for each key.
#[must_use]
pub fn markdown() -> String {
    let tables: Vec<String> = keys::ALL.iter().map(|keys| table(keys)).collect();
    tables.join("\n")
}

fn table(keys: &'static Keys) -> String {
    let mut text =
        format!("### {}\n\n| key | supported | what happens |\n| --- | --- | --- |\n", heading(keys));
    for row in rows_of(keys) {
        let (word, note) = (row.support.as_str(), row.what_happens());
        let gap = if note.is_empty() { "" } else { " " };
        text.push_str(&format!("| `{}` | {word} |{gap}{note} |\n", row.key));
    }
    text
}

/// The name of a map as a heading.
fn heading(keys: &Keys) -> String {
    let mut letters = keys.noun.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The rows of a key, one for each map that has it; or the most similar key, if there is one.
///
/// # Errors
///
/// The name of the most similar key, for a key that no map has.
pub fn explain(name: &str) -> Result<Vec<Row>, Option<&'static str>> {
    let found: Vec<Row> = rows().filter(|row| row.key == name).collect();
    if found.is_empty() {
        return Err(closest(name, keys::ALL.iter().flat_map(|keys| keys.names(NEWEST_VERSION))));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::explain;
    use super::markdown;
    use super::rows;
    use crate::team::Support;

    #[test]
    fn a_key_is_explained_for_each_map_that_has_it() {
        let found = explain("readonly").unwrap();
        let maps: Vec<&str> = found.iter().map(|row| row.map).collect();
        assert_eq!(maps, ["an agent", "a toolset"]);
        assert_eq!(explain("toolset"), Err(Some("toolsets")));
        assert_eq!(explain("qqqqqqqqqq"), Err(None));
    }

    #[test]
    fn a_row_that_is_not_a_plain_yes_says_why() {
        for row in rows() {
            assert!(row.support == Support::Yes || !row.note.is_empty(), "{row:?}");
        }
        assert!(
            markdown()
                .starts_with("### The file\n\n| key | supported | what happens |\n| --- | --- | --- |\n")
        );
        assert!(markdown().contains("\n| `version` | yes | |\n"));
        assert!(markdown().contains("\n| `sandbox` | no | in versions 3 to 5; commands run directly"));
    }
}
