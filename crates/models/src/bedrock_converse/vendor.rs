//! Whose model an identifier of Bedrock names, and what the models of that vendor take through Converse.

use std::mem;

use crate::anthropic::model::Claude;
use crate::openai::Model;

/// Whose model it is. Of a vendor that is not here, only what all of them take is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    Anthropic(Claude),
    Amazon {
        /// Whether the model can think before it answers.
        reasons: bool,
    },
    Openai {
        model: Model,
        /// Whether its weights are open: such a model takes the effort in another field.
        is_open: bool,
    },
    Meta {
        /// Whether the model reads images in results.
        reads_results: bool,
    },
    Mistral,
    Other {
        /// Whether the vendor's models take a form of the answer.
        takes_form: bool,
    },
}

/// Which choices of tools a model takes beyond its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choices {
    None,
    Any,
    AnyOrOne,
}

/// Vendors whose models take a form of the answer, besides those that have a variant.
const WITH_FORM: [&str; 8] =
    ["qwen", "deepseek", "google", "minimax", "nvidia", "moonshot", "moonshotai", "zai"];
/// The first Claude models that take a form of the answer here.
const CLAUDE_WITH_FORM: (u32, u32) = (4, 5);

impl Vendor {
    /// The vendor of a model: `anthropic.claude…`, with a region before it, or as the end of an ARN.
    pub(super) fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let mut words = name.splitn(3, '.');
        let (first, second) = (words.next().unwrap_or_default(), words.next());
        let known = |word: &str, rest: &str| match word {
            "anthropic" => Some(Self::Anthropic(Claude::of(rest))),
            "amazon" => Some(Self::Amazon { reasons: rest.starts_with("nova-2") }),
            "openai" => Some(Self::Openai { model: Model::of(rest), is_open: rest.starts_with("gpt-oss") }),
            "meta" => Some(Self::Meta { reads_results: rest.starts_with("llama4") }),
            "mistral" => Some(Self::Mistral),
            other if WITH_FORM.contains(&other) => Some(Self::Other { takes_form: true }),
            _ => None,
        };
        let rest_after = |word: &str| name.split_once(&format!("{word}.")).map_or("", |(_, rest)| rest);
        let mut found =
            [Some(first), second].into_iter().flatten().filter_map(|word| known(word, rest_after(word)));
        let unknown = match name.contains("claude") {
            true => Self::Anthropic(Claude::of(&name)),
            false => Self::Other { takes_form: false },
        };
        found.next().unwrap_or(unknown)
    }

    /// Whether a failed result can be marked as one.
    pub(super) fn takes_status(self) -> bool {
        matches!(self, Self::Anthropic(_) | Self::Amazon { .. })
    }

    /// Whether images may stand in results; where not, they follow.
    pub(super) fn takes_images_in_results(self) -> bool {
        matches!(self, Self::Anthropic(_) | Self::Amazon { .. } | Self::Meta { reads_results: true })
    }

    /// Which choices of tools it takes.
    pub(super) fn choices(self) -> Choices {
        match self {
            Self::Anthropic(_) | Self::Amazon { .. } | Self::Openai { .. } => Choices::AnyOrOne,
            Self::Mistral => Choices::Any,
            Self::Meta { .. } | Self::Other { .. } => Choices::None,
        }
    }

    /// Whether it takes a form of the answer.
    pub(super) fn takes_form(self) -> bool {
        match self {
            Self::Anthropic(claude) => claude.is_at_least(CLAUDE_WITH_FORM),
            Self::Openai { .. } | Self::Mistral => true,
            Self::Amazon { .. } | Self::Meta { .. } => false,
            Self::Other { takes_form } => takes_form,
        }
    }

    /// Whether its models understand the signatures of those of the other.
    pub(super) fn is_same(self, other: Self) -> bool {
        let is_known = !matches!(self, Self::Other { .. });
        is_known && mem::discriminant(&self) == mem::discriminant(&other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendor_of_a_model() {
        let claude = Vendor::Anthropic(Claude::of("claude-sonnet-4-5-20250929-v1:0"));
        let nova = |reasons| Vendor::Amazon { reasons };
        let other = |takes_form| Vendor::Other { takes_form };
        let table = [
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", claude),
            ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", claude),
            (
                "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                claude,
            ),
            ("us.amazon.nova-2-lite-v1:0", nova(true)),
            ("amazon.nova-pro-v1:0", nova(false)),
            ("openai.gpt-oss-120b-1:0", Vendor::Openai { model: Model::of("gpt-oss-120b"), is_open: true }),
            ("us.openai.gpt-5.6-terra", Vendor::Openai { model: Model::of("gpt-5.6-terra"), is_open: false }),
            ("us.meta.llama4-scout-17b-instruct-v1:0", Vendor::Meta { reads_results: true }),
            ("meta.llama3-1-70b-instruct-v1:0", Vendor::Meta { reads_results: false }),
            ("mistral.mistral-large-2407-v1:0", Vendor::Mistral),
            ("qwen.qwen3-32b-v1:0", other(true)),
            ("cohere.command-r-v1:0", other(false)),
            ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", other(false)),
            ("claude-sonnet-4-5", claude),
            ("", other(false)),
        ];
        for (model, vendor) in table {
            assert_eq!(Vendor::of(model), vendor, "{model}");
        }
        assert!(claude.takes_form() && !Vendor::of("anthropic.claude-3-haiku-20240307-v1:0").takes_form());
        assert!(nova(true).is_same(nova(false)) && !nova(true).is_same(claude));
        assert!(!other(true).is_same(other(true)));
    }
}
