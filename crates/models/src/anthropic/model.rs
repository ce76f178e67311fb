//! What a Claude model takes, by the version in its name.
//!
//! Models of other vendors speak Messages too; what is not known of them is left to the provider.

/// Families that think whether or not they are asked to. Their first version is 5.
const ALWAYS_THINKING: [&str; 2] = ["fable", "mythos"];

/// A Claude model, or one that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claude {
    /// None: not a Claude model, or one without a number in its name.
    version: Option<(u32, u32)>,
    is_opus: bool,
    always_thinks: bool,
}

/// Which of temperature and top_p a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sampling {
    Both,
    One,
    Neither,
}

impl Claude {
    /// The model of a name, whatever a router, Bedrock or Vertex puts around it.
    pub(crate) fn of(model: &str) -> Self {
        let name = model.to_ascii_lowercase();
        let own = name.split_once("claude").map(|(_, own)| own).unwrap_or_default();
        let words: Vec<&str> = own.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        let always_thinks = words.iter().any(|word| ALWAYS_THINKING.contains(word));
        let version = version(&words).or(always_thinks.then_some((5, 0)));
        Self { version, is_opus: words.contains(&"opus"), always_thinks }
    }

    /// The most output tokens where the agent file names none, which the provider wants to be given.
    pub(crate) fn default_output_tokens(self) -> u32 {
        match self.version {
            None => 32_000,
            Some((..3, _) | (3, ..5)) => 4_096,
            Some((3, 5 | 6)) => 8_192,
            Some((4, ..5)) if self.is_opus => 32_000,
            Some((3, _) | (4, ..8)) => 64_000,
            Some(_) => 128_000,
        }
    }

    /// Whether the model can be left to decide how much it thinks.
    pub(crate) fn takes_adaptive(self) -> bool {
        self.is_at_least((4, 6))
    }

    /// Whether it takes a number of tokens for thinking.
    pub(crate) fn takes_budget(self) -> bool {
        !self.is_at_least((4, 7))
    }

    /// Whether it thinks where the request does not mention thinking.
    pub(crate) fn thinks_by_default(self) -> bool {
        self.is_at_least((5, 0))
    }

    /// Whether thinking can be switched off.
    pub(crate) fn can_stop_thinking(self) -> bool {
        !self.always_thinks
    }

    /// The words of effort that it takes; empty: none.
    pub(crate) fn efforts(self) -> &'static [&'static str] {
        match () {
            () if self.is_at_least((4, 7)) => &["low", "medium", "high", "xhigh", "max"],
            () if self.is_at_least((4, 6)) => &["low", "medium", "high", "max"],
            () if self.is_opus && self.is_at_least((4, 5)) => &["low", "medium", "high"],
            () => &[],
        }
    }

    /// The effort that comes nearest to a word; none: the word is not known.
    pub(crate) fn effort(self, word: &str) -> Option<&'static str> {
        let nearest = match word {
            "minimal" => ["low", "low"],
            "xhigh" => ["xhigh", "high"],
            "max" => ["max", "high"],
            word => [word, word],
        };
        nearest.iter().find_map(|near| self.efforts().iter().copied().find(|known| known == near))
    }

    /// Which sampling settings it takes together.
    pub(crate) fn sampling(self) -> Sampling {
        match () {
            () if self.is_at_least((4, 7)) => Sampling::Neither,
            () if self.is_at_least((4, 1)) => Sampling::One,
            () => Sampling::Both,
        }
    }

    /// Whether a conversation may end with a message of the model, which it then continues.
    pub(crate) fn continues_itself(self) -> bool {
        !self.is_at_least((4, 6))
    }

    /// Whether it is known to be of this version or a later one.
    pub(crate) fn is_at_least(self, version: (u32, u32)) -> bool {
        self.version.is_some_and(|own| own >= version)
    }
}

/// The first one or two short numbers; a longer one is a date.
fn version(words: &[&str]) -> Option<(u32, u32)> {
    let number = |word: &&str| word.parse().ok().filter(|_| word.len() <= 2);
    let mut numbers = words.iter().skip_while(|word| number(word).is_none()).map_while(number);
    Some((numbers.next()?, numbers.next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_in_a_name() {
        let table = [
            ("claude-opus-4-5-20251101", Some((4, 5))),
            ("claude-sonnet-4-20250514", Some((4, 0))),
            ("claude-3-7-sonnet-20250219", Some((3, 7))),
            ("claude-3-opus-20240229", Some((3, 0))),
            ("claude-opus-4-1@20250805", Some((4, 1))),
            ("anthropic/claude-sonnet-4.5", Some((4, 5))),
            ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", Some((4, 5))),
            ("Claude-Sonnet-5", Some((5, 0))),
            ("claude-mythos-preview", Some((5, 0))),
            ("claude-sonnet-latest", None),
            ("glm-4.6", None),
            ("test", None),
        ];
        for (name, version) in table {
            assert_eq!(Claude::of(name).version, version, "{name}");
        }
    }

    #[test]
    fn what_each_model_takes() {
        let table = [
            ("claude-3-haiku", 4_096, false, true, Sampling::Both),
            ("claude-3-5-sonnet", 8_192, false, true, Sampling::Both),
            ("claude-opus-4-0", 32_000, false, true, Sampling::Both),
            ("claude-opus-4-1", 32_000, false, true, Sampling::One),
            ("claude-sonnet-4-5", 64_000, false, true, Sampling::One),
            ("claude-opus-4-6", 64_000, true, true, Sampling::One),
            ("claude-opus-4-7", 64_000, true, false, Sampling::Neither),
            ("claude-sonnet-5", 128_000, true, false, Sampling::Neither),
            ("kimi-k2", 32_000, false, true, Sampling::Both),
        ];
        for (name, tokens, adaptive, budget, sampling) in table {
            let model = Claude::of(name);
            assert_eq!(model.default_output_tokens(), tokens, "{name}");
            assert_eq!((model.takes_adaptive(), model.takes_budget()), (adaptive, budget), "{name}");
            assert_eq!(model.sampling(), sampling, "{name}");
        }
        let efforts = [
            ("claude-sonnet-4-5", "high", None),
            ("claude-opus-4-5", "max", Some("high")),
            ("claude-opus-4-6", "xhigh", Some("high")),
            ("claude-opus-4-8", "xhigh", Some("xhigh")),
            ("claude-haiku-5", "minimal", Some("low")),
            ("claude-haiku-5", "much", None),
        ];
        for (name, word, effort) in efforts {
            assert_eq!(Claude::of(name).effort(word), effort, "{name} {word}");
        }
    }
}
