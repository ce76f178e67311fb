//! Money: what model calls cost, from prices by model, and limits in tokens or dollars.
//!
//! Amounts are whole millionths of a dollar, so that sums are exact.
//!
//! The table below was compared with a public collection of the providers' lists as of its date, and not with the providers
//! themselves. Prices change: check them against the provider before you rely on them, and put what you pay into the policy
//! file's `prices` or the agent file's `cost`, which override the table.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use thiserror::Error;

use crate::job::Usage;

/// The date of the list that the table was compared with: <https://github.com/simonw/llm-prices>.
pub const PRICES_OF: &str = "2026-08-05";
/// Millionths of a dollar in a dollar.
const MICROS: f64 = 1_000_000.0;
/// Tokens that a price is for.
const TOKENS: u128 = 1_000_000;

/// List prices in dollars for a million tokens: input, input from the cache, output. Prices for long requests, for batches
/// and of contracts are not here; the policy file and agent files override.
const TABLE: [(&str, f64, f64, f64); 66] = [
    ("anthropic/claude-3-5-haiku", 0.8, 0.08, 4.0),
    ("anthropic/claude-3-5-sonnet", 3.0, 0.3, 15.0),
    ("anthropic/claude-3-7-sonnet", 3.0, 0.3, 15.0),
    ("anthropic/claude-haiku-4-5", 1.0, 0.1, 5.0),
    ("anthropic/claude-opus-4", 15.0, 1.5, 75.0),
    ("anthropic/claude-opus-4-0", 15.0, 1.5, 75.0),
    ("anthropic/claude-opus-4-1", 15.0, 1.5, 75.0),
    ("anthropic/claude-opus-4-5", 5.0, 0.5, 25.0),
    ("anthropic/claude-opus-4-6", 5.0, 0.5, 25.0),
    ("anthropic/claude-opus-4-7", 5.0, 0.5, 25.0),
    ("anthropic/claude-opus-4-8", 5.0, 0.5, 25.0),
    ("anthropic/claude-sonnet-4", 3.0, 0.3, 15.0),
    ("anthropic/claude-sonnet-4-0", 3.0, 0.3, 15.0),
    ("anthropic/claude-sonnet-4-5", 3.0, 0.3, 15.0),
    ("deepseek/deepseek-chat", 0.28, 0.028, 0.42),
    ("deepseek/deepseek-reasoner", 0.28, 0.028, 0.42),
    ("deepseek/deepseek-v4-flash", 0.14, 0.028, 0.28),
    ("deepseek/deepseek-v4-pro", 1.74, 0.145, 3.48),
    ("google/gemini-2.0-flash", 0.1, 0.025, 0.4),
    ("google/gemini-2.5-flash", 0.3, 0.03, 2.5),
    ("google/gemini-2.5-flash-lite", 0.1, 0.01, 0.4),
    ("google/gemini-2.5-pro", 1.25, 0.125, 10.0),
    ("google/gemini-3-flash-preview", 0.5, 0.05, 3.0),
    ("google/gemini-3-pro-preview", 2.0, 0.2, 12.0),
    ("google/gemini-3.1-flash-lite-preview", 0.25, 0.025, 1.5),
    ("google/gemini-3.1-pro-preview", 2.0, 0.2, 12.0),
    ("google/gemini-3.5-flash", 1.5, 0.15, 9.0),
    ("google/gemini-3.5-flash-lite", 0.3, 0.03, 2.5),
    ("google/gemini-3.6-flash", 1.5, 0.15, 7.5),
    ("mistral/mistral-large", 2.0, 2.0, 6.0),
    ("mistral/mistral-medium", 0.4, 0.4, 2.0),
    ("mistral/mistral-small", 0.1, 0.1, 0.3),
    ("openai/gpt-4.1", 2.0, 0.5, 8.0),
    ("openai/gpt-4.1-mini", 0.4, 0.1, 1.6),
    ("openai/gpt-4.1-nano", 0.1, 0.025, 0.4),
    ("openai/gpt-4o", 2.5, 1.25, 10.0),
    ("openai/gpt-4o-mini", 0.15, 0.075, 0.6),
    ("openai/gpt-5", 1.25, 0.125, 10.0),
    ("openai/gpt-5-mini", 0.25, 0.025, 2.0),
    ("openai/gpt-5-nano", 0.05, 0.005, 0.4),
    ("openai/gpt-5-pro", 15.0, 15.0, 120.0),
    ("openai/gpt-5.1", 1.25, 0.125, 10.0),
    ("openai/gpt-5.1-codex", 1.25, 0.125, 10.0),
    ("openai/gpt-5.1-codex-mini", 0.25, 0.025, 2.0),
    ("openai/gpt-5.2", 1.75, 0.175, 14.0),
    ("openai/gpt-5.2-pro", 21.0, 21.0, 168.0),
    ("openai/gpt-5.4", 2.5, 0.25, 15.0),
    ("openai/gpt-5.4-mini", 0.75, 0.075, 4.5),
    ("openai/gpt-5.4-nano", 0.2, 0.02, 1.25),
    ("openai/gpt-5.4-pro", 30.0, 30.0, 180.0),
    ("openai/gpt-5.5", 5.0, 0.5, 30.0),
    ("openai/gpt-5.5-pro", 30.0, 30.0, 180.0),
    ("openai/gpt-5.6-luna", 0.2, 0.02, 1.2),
    ("openai/gpt-5.6-sol", 5.0, 0.5, 30.0),
    ("openai/gpt-5.6-terra", 2.0, 0.2, 12.0),
    ("openai/o1", 15.0, 7.5, 60.0),
    ("openai/o3", 2.0, 0.5, 8.0),
    ("openai/o3-mini", 1.1, 0.55, 4.4),
    ("openai/o4-mini", 1.1, 0.275, 4.4),
    ("xai/grok-3", 3.0, 0.75, 15.0),
    ("xai/grok-3-mini", 0.3, 0.075, 0.5),
    ("xai/grok-4", 3.0, 0.75, 15.0),
    ("xai/grok-4-fast", 0.2, 0.05, 0.5),
    ("xai/grok-4.3", 1.25, 0.2, 2.5),
    ("xai/grok-4.5", 2.0, 0.3, 6.0),
    ("xai/grok-code-fast-1", 0.2, 0.02, 1.5),
];

/// An amount in millionths of a dollar; dollars in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(pub u64);

impl Money {
    /// An amount in dollars; zero for what is not an amount.
    #[must_use]
    pub fn of_dollars(dollars: f64) -> Self {
        Self(micros(dollars))
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Money {
    /// Cents from a dollar on, hundredths of them below.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dollars = self.0 as f64 / MICROS;
        match self.0 {
            0 => f.write_str("$0.00"),
            1..100 => f.write_str("<$0.0001"),
            100..1_000_000 => write!(f, "${dollars:.4}"),
            _ => write!(f, "${dollars:.2}"),
        }
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / MICROS)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(|dollars| Self(micros(dollars)))
    }
}

/// Millionths of a dollar; zero for what is not an amount.
fn micros(dollars: f64) -> u64 {
    // A cast of a float saturates.
    (dollars * MICROS).round() as u64
}

/// A limit of what a job may use over all its attempts: tokens, or what they cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpendingLimit {
    /// Input and output tokens.
    Tokens(u64),
    /// What the tokens cost, at the price of each model that is called.
    Money(Money),
}

/// A text that is not a spending limit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is neither a number of tokens nor an amount such as $2.50")]
pub struct NotALimit(String);

impl SpendingLimit {
    /// The number of tokens; `None` for an amount of money.
    #[must_use]
    pub fn tokens(self) -> Option<u64> {
        match self {
            Self::Tokens(tokens) => Some(tokens),
            Self::Money(_) => None,
        }
    }

    /// The amount of money; `None` for a number of tokens.
    #[must_use]
    pub fn money(self) -> Option<Money> {
        match self {
            Self::Tokens(_) => None,
            Self::Money(money) => Some(money),
        }
    }
}

impl FromStr for SpendingLimit {
    type Err = NotALimit;

    fn from_str(text: &str) -> Result<Self, NotALimit> {
        let limit = match text.strip_prefix('$') {
            None => text.parse().ok().filter(|tokens| *tokens > 0).map(Self::Tokens),
            Some(dollars) => {
                micros_of(dollars).filter(|micros| *micros > 0).map(|micros| Self::Money(Money(micros)))
            }
        };
        limit.ok_or_else(|| NotALimit(text.to_owned()))
    }
}

/// Millionths of a dollar from digits with at most six decimals, without loss.
fn micros_of(dollars: &str) -> Option<u64> {
    let (whole, decimals) = dollars.split_once('.').unwrap_or((dollars, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > 6 || whole.len() + decimals.len() == 0 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let decimals: u64 = format!("{decimals:0<6}").parse().ok()?;
    whole.checked_mul(1_000_000)?.checked_add(decimals)
}

impl fmt::Display for SpendingLimit {
    /// As it is parsed, without loss.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens(tokens) => write!(f, "{tokens}"),
            Self::Money(Money(micros)) => {
                let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
                write!(f, "${}", text.trim_end_matches('0').trim_end_matches('.'))
            }
        }
    }
}

impl Serialize for SpendingLimit {
    /// Tokens are a number, money is a text with its sign.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Tokens(tokens) => serializer.serialize_u64(*tokens),
            Self::Money(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for SpendingLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Tokens(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Tokens(tokens) => Ok(Self::Tokens(tokens)),
            Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// What a model's tokens cost: millionths of a dollar for a million of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Input tokens that are not read from the cache.
    #[serde(default)]
    pub input: Money,
    /// Output tokens.
    #[serde(default)]
    pub output: Money,
    /// Input tokens that the provider reads from its cache; as other input where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<Money>,
}

impl Price {
    /// What this many tokens cost, rounded down.
    pub fn of(&self, usage: Usage) -> Money {
        let cached = usage.cached_tokens.min(usage.input_tokens);
        let parts = [
            (usage.input_tokens - cached, self.input),
            (cached, self.cache_read.unwrap_or(self.input)),
            (usage.output_tokens, self.output),
        ];
        let sum: u128 = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(price.0)).sum();
        Money(u64::try_from(sum / TOKENS).unwrap_or(u64::MAX))
    }
}

/// Prices by model: those that a fleet decided, then those of the table. Cheap to clone, because each run has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<String, Price>")]
pub struct Prices(Arc<BTreeMap<String, Price>>);

impl From<BTreeMap<String, Price>> for Prices {
    fn from(decided: BTreeMap<String, Price>) -> Self {
        Self(Arc::new(decided))
    }
}

impl Prices {
    /// The price of `provider/model`; `None` for a model without a known price. A model of the table is found with a
    /// date or `latest` after its name too.
    pub fn of(&self, model: &str) -> Option<Price> {
        self.0.get(model).copied().or_else(|| listed(model))
    }
}

/// The table's price of a model.
fn listed(model: &str) -> Option<Price> {
    let is_version = |rest: &str| {
        rest.is_empty()
            || rest.strip_prefix('-').is_some_and(|rest| {
                rest == "latest" || rest.len() >= 4 && rest.chars().all(|c| c.is_ascii_digit() || c == '-')
            })
    };
    let found = TABLE.iter().filter(|(name, ..)| model.strip_prefix(name).is_some_and(is_version));
    let (_, input, cached, output) = found.max_by_key(|(name, ..)| name.len())?;
    let money = |dollars: &f64| Money(micros(*dollars));
    Some(Price { input: money(input), output: money(output), cache_read: Some(money(cached)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_with_a_date_and_no_other_model_is_taken_for_them() {
        let prices = Prices::default();
        for (model, input) in [
            ("openai/gpt-4o", Some(2_500_000)),
            ("openai/gpt-4o-2024-08-06", Some(2_500_000)),
            ("openai/gpt-4o-mini", Some(150_000)),
            ("openai/gpt-4o-mini-2024-07-18", Some(150_000)),
            ("openai/gpt-4o-audio-preview", None),
            ("anthropic/claude-sonnet-4-5-20250929", Some(3_000_000)),
            ("anthropic/claude-opus-4-20250514", Some(15_000_000)),
            // A later model is not an earlier one with a version.
            ("anthropic/claude-opus-4-7", Some(5_000_000)),
            ("anthropic/claude-opus-4-9", None),
            ("mistral/mistral-large-latest", Some(2_000_000)),
            ("ollama/llama3", None),
            ("gpt-4o", None),
        ] {
            assert_eq!(prices.of(model).map(|price| price.input.0), input, "{model}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_has_no_model_twice() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn cached_input_has_its_own_price_and_a_fleets_price_wins() {
        let usage =
            Usage { input_tokens: 1_000_000, cached_tokens: 400_000, output_tokens: 100_000, turns: 3 };
        let listed = Prices::default().of("openai/gpt-4o").unwrap();
        // 600,000 at 2.50, 400,000 at 1.25, 100,000 at 10.
        assert_eq!(listed.of(usage), Money(3_000_000));
        let own = Price { input: Money(1_000_000), output: Money(2_000_000), cache_read: None };
        let prices = Prices::from(BTreeMap::from([("openai/gpt-4o".to_owned(), own)]));
        assert_eq!(prices.of("openai/gpt-4o").unwrap().of(usage), Money(1_200_000));
        assert_eq!(own.of(Usage::default()), Money(0));
    }

    #[test]
    fn a_limit_is_tokens_or_dollars() {
        for (text, limit, shown) in [
            ("100000", SpendingLimit::Tokens(100_000), "100000"),
            ("$2.50", SpendingLimit::Money(Money(2_500_000)), "$2.5"),
            ("$3", SpendingLimit::Money(Money(3_000_000)), "$3"),
            ("$.5", SpendingLimit::Money(Money(500_000)), "$0.5"),
            ("$18446744073709.551615", SpendingLimit::Money(Money(u64::MAX)), "$18446744073709.551615"),
            ("$0.000001", SpendingLimit::Money(Money(1)), "$0.000001"),
        ] {
            assert_eq!(text.parse(), Ok(limit), "{text}");
            assert_eq!(limit.to_string(), shown);
            let json = serde_json::to_string(&limit).unwrap();
            assert_eq!(serde_json::from_str::<SpendingLimit>(&json).unwrap(), limit, "{json}");
        }
        assert_eq!(serde_json::to_string(&SpendingLimit::Tokens(7)).unwrap(), "7");
        for wrong in [
            "",
            "0",
            "-5",
            "2.5",
            "$",
            "$0",
            "$-1",
            "$inf",
            "$x",
            "€5",
            "$1e999",
            "$.",
            "$1.0000001",
            "$99999999999999999999",
        ] {
            assert!(wrong.parse::<SpendingLimit>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn amounts_are_dollars_in_texts_and_json() {
        for (micros, text) in [
            (0, "$0.00"),
            (7, "<$0.0001"),
            (12_345, "$0.0123"),
            (2_500_000, "$2.50"),
            (1_234_567_890, "$1234.57"),
        ] {
            assert_eq!(Money(micros).to_string(), text);
        }
        assert_eq!(serde_json::to_string(&Money(12_345)).unwrap(), "0.012345");
        assert_eq!(serde_json::from_str::<Money>("2.5").unwrap(), Money(2_500_000));
    }
}
