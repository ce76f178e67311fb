//! What a Gemini model takes, by the version in its name.

use std::ops::RangeInclusive;

/// The version of names such as `gemini-flash-latest`.
const LATEST: (u32, u32) = (3, 5);

/// A Gemini model, or one that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model {
    /// None: another model than Gemini, or one without a number in its name.
    version: Option<(u32, u32)>,
    is_pro: bool,
    is_lite: bool,
    thinks: bool,
}

/// How the amount of thinking is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Control {
    /// By a number of tokens within a range, if the range is known.
    Tokens(Option<RangeInclusive<u32>>),
    /// By a word, from least to most. A number is taken too.
    Levels(&'static [&'static str]),
}

impl Model {
    /// The model of a name, whatever a router puts before it.
    pub(super) fn of(name: &str) -> Self {
        let name = name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let own = name.strip_prefix("gemini-");
        let version = own.and_then(|own| version(own).or(own.ends_with("latest").then_some(LATEST)));
        let thinks = version.is_none_or(|version| version >= (2, 5)) && !name.starts_with("gemma");
        Self {
            version,
            is_pro: name.contains("pro"),
            is_lite: name.contains("lite"),
            thinks: thinks && !name.contains("image"),
        }
    }

    /// How the amount of thinking is set; none: it does not think.
    pub(super) fn control(self) -> Option<Control> {
        self.thinks.then_some(match self.version {
            None => Control::Tokens(None),
            Some((..3, _)) if self.is_pro => Control::Tokens(Some(128..=32_768)),
            Some((..3, _)) if self.is_lite => Control::Tokens(Some(512..=24_576)),
            Some((..3, _)) => Control::Tokens(Some(1..=24_576)),
            Some((3, 0)) if self.is_pro => Control::Levels(&["low", "high"]),
            Some(_) if self.is_pro => Control::Levels(&["low", "medium", "high"]),
            Some(_) => Control::Levels(&["minimal", "low", "medium", "high"]),
        })
    }

    /// Whether 0 tokens switch its thinking off.
    pub(super) fn can_stop_thinking(self) -> bool {
        !self.is_pro
    }

    /// Whether ids of calls go back. Before version 3, Vertex refuses the field.
    pub(super) fn has_ids(self) -> bool {
        self.version.is_none_or(|version| version >= (3, 0))
    }

    /// Whether the first call of a reply must be signed.
    pub(super) fn wants_signatures(self) -> bool {
        self.is_at_least((3, 0))
    }

    /// Whether a tool result may hold images. For others they follow the result.
    pub(super) fn reads_images_in_results(self) -> bool {
        self.is_at_least((3, 0))
    }

    /// Whether the form of the answer may be set where there are tools.
    pub(super) fn takes_form_with_tools(self) -> bool {
        self.version.is_none_or(|version| version >= (3, 0))
    }

    /// Whether it takes penalties.
    pub(super) fn takes_penalties(self) -> bool {
        self.version.is_none_or(|version| version < (2, 5))
    }

    fn is_at_least(self, version: (u32, u32)) -> bool {
        self.version.is_some_and(|own| own >= version)
    }
}

/// The numbers that the name begins with: `2.5-pro`, `3-flash`.
fn version(own: &str) -> Option<(u32, u32)> {
    let numbers = own.split('-').next()?;
    let (major, minor) = numbers.split_once('.').unwrap_or((numbers, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_model_takes() {
        let tokens = |range| Some(Control::Tokens(Some(range)));
        let levels = Some(Control::Levels(&["minimal", "low", "medium", "high"]));
        let table = [
            ("gemini-1.5-pro", None, false, true),
            ("gemini-2.0-flash", None, false, true),
            ("gemini-2.5-flash-preview-09-2025", tokens(1..=24_576), false, false),
            ("models/gemini-2.5-pro", tokens(128..=32_768), false, false),
            ("gemini-2.5-flash-lite", tokens(512..=24_576), false, false),
            ("gemini-2.5-flash-image", None, false, false),
            ("google/gemini-3-pro-preview", Some(Control::Levels(&["low", "high"])), true, false),
            ("gemini-3.1-pro-preview", Some(Control::Levels(&["low", "medium", "high"])), true, false),
            ("gemini-3-flash", levels.clone(), true, false),
            ("gemini-flash-latest", levels, true, false),
            ("gemma-3-27b-it", None, true, true),
            ("test", Some(Control::Tokens(None)), true, true),
        ];
        for (name, control, ids, penalties) in table {
            let model = Model::of(name);
            assert_eq!(model.control(), control, "{name}");
            assert_eq!((model.has_ids(), model.takes_penalties()), (ids, penalties), "{name}");
        }
    }
}
