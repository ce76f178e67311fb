//! Packed fields of a job's record: numbers that are always written together are one field, separated by spaces.

use legwork_common::job::Usage;

/// The attempt of a job and its times, in the field `run`: `<attempt> <claimed>`, and after the first attempt
/// ` <first claimed>`. `claim.lua` writes it, and `attempts.lua` sets `claimed` to 0 when the attempt ends and the job does
/// not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RunField {
    pub(crate) attempt: u32,
    /// The claim of the current or last attempt, by Redis' clock in milliseconds; 0 while there is none.
    pub(crate) claimed: u64,
    /// The first claim, by Redis' clock in milliseconds; 0 before it.
    pub(crate) started: u64,
}

impl RunField {
    /// The default for a text that does not hold one.
    pub(crate) fn decode(text: &str) -> Self {
        let mut words = text.split(' ');
        let mut next = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (Some(attempt), Some(claimed)) = (next(), next()) else { return Self::default() };
        let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
        Self { attempt, claimed, started: next().unwrap_or(claimed) }
    }
}

/// Output and usage of a job as of the last attempt that ended, in the field `usage`: `<bytes of output> <input tokens>
/// <cached tokens> <output tokens> <turns>`, and ` <bytes of result>` where the result is the end of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UsageField {
    pub(crate) output_bytes: u64,
    pub(crate) usage: Usage,
    /// Bytes of the result where it is the end of the output; 0 where it has a key of its own, or there is none.
    pub(crate) result_bytes: u64,
}

impl UsageField {
    /// The field as it is stored.
    pub(crate) fn encode(self) -> String {
        let Usage { input_tokens, cached_tokens, output_tokens, turns } = self.usage;
        let mut text =
            format!("{} {input_tokens} {cached_tokens} {output_tokens} {turns}", self.output_bytes);
        if self.result_bytes > 0 {
            text.push_str(&format!(" {}", self.result_bytes));
        }
        text
    }

    /// What is missing in the text is 0.
    pub(crate) fn decode(text: &str) -> Self {
        let mut words = text.split(' ');
        let mut next = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        Self {
            output_bytes: next(),
            usage: Usage {
                input_tokens: next(),
                cached_tokens: next(),
                output_tokens: next(),
                turns: next(),
            },
            result_bytes: next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn usage_comes_back_from_its_field(numbers in proptest::array::uniform5(any::<u64>()), result_bytes: u64) {
            let [output_bytes, input_tokens, cached_tokens, output_tokens, turns] = numbers;
            let usage = Usage { input_tokens, cached_tokens, output_tokens, turns };
            let field = UsageField { output_bytes, usage, result_bytes };
            prop_assert_eq!(UsageField::decode(&field.encode()), field);
        }

        #[test]
        fn any_text_is_read(text in "\\PC{0,20}") {
            RunField::decode(&text);
            UsageField::decode(&text);
        }
    }

    #[test]
    fn the_first_claim_is_kept_over_later_ones() {
        assert_eq!(RunField::decode("1 500"), RunField { attempt: 1, claimed: 500, started: 500 });
        assert_eq!(RunField::decode("3 900 500"), RunField { attempt: 3, claimed: 900, started: 500 });
        assert_eq!(RunField::decode("3 0 500"), RunField { attempt: 3, claimed: 0, started: 500 });
        assert_eq!(RunField::decode(""), RunField::default());
    }
}
