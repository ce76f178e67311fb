//! Which model answers a turn where routing rules send some prompts to other models. Pure.
//!
//! A rule has example prompts. Each example is scored by the share of its words that the prompt contains, where a
//! word weighs more the fewer examples have it (the inverse document frequency, Spärck Jones 1972). The rule of the
//! best example gets the turn; where no example shares a word, the model's own settings do.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use legwork_common::team::ModelSettings;

/// Words that are in most prompts and tell nothing about them.
const STOP_WORDS: [&str; 36] = [
    "a", "about", "an", "and", "are", "as", "at", "be", "by", "can", "do", "for", "from", "how", "i", "in",
    "is", "it", "me", "my", "of", "on", "or", "please", "should", "that", "the", "this", "to", "was", "what",
    "when", "which", "with", "you", "your",
];

/// The model that answers `prompt`.
pub(crate) fn pick<'m>(settings: &'m ModelSettings, prompt: &str) -> &'m ModelSettings {
    if settings.routing.is_empty() {
        return settings;
    }
    let prompt = words(prompt);
    let examples: Vec<(usize, BTreeSet<String>)> = (0..)
        .zip(&settings.routing)
        .flat_map(|(rule, routing)| routing.examples.iter().map(move |example| (rule, words(example))))
        .collect();
    let mut frequency: BTreeMap<&str, u32> = BTreeMap::new();
    for word in examples.iter().flat_map(|(_, words)| words) {
        *frequency.entry(word).or_default() += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "a file has far fewer examples than 2^52")]
    let all = examples.len() as f64;
    let weight =
        |word: &String| frequency.get(word.as_str()).map_or(0.0, |&has| (1.0 + all / f64::from(has)).ln());
    let mut best = (0.0, settings);
    for (rule, example) in &examples {
        let shared: f64 = example.intersection(&prompt).map(weight).sum();
        let whole: f64 = example.iter().map(weight).sum();
        let score = if whole > 0.0 { shared / whole } else { 0.0 };
        if score > best.0 {
            best = (score, &settings.routing[*rule].model);
        }
    }
    best.1
}

/// The words of a text in lower case, without stop words.
fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .map(str::to_lowercase)
        .filter(|word| !word.is_empty() && !STOP_WORDS.contains(&word.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use legwork_common::team::RoutingRule;
    use proptest::prelude::*;

    use super::*;

    fn routed(rules: &[(&str, &[&str])]) -> ModelSettings {
        let model = |name: &str| ModelSettings::inline("openai", name).unwrap();
        let rule = |(name, examples): &(&str, &[&str])| RoutingRule {
            model: model(name),
            examples: examples.iter().map(|&example| example.to_owned()).collect(),
        };
        ModelSettings { routing: rules.iter().map(rule).collect(), ..model("own") }
    }

    #[test]
    fn picks_the_rule_with_the_most_similar_example() {
        let settings = routed(&[
            ("small", &["What time is it?", "Say hello"]),
            ("coder", &["Fix a bug in this function", "Write a unit test", "Refactor the module"]),
            ("unused", &[]),
        ]);
        let table = [
            ("Hello!", "small"),
            ("what TIME is it in Paris", "small"),
            ("There is a bug in the parser's function.", "coder"),
            ("write me a test", "coder"),
            ("Tell me about bats", "own"),
            ("is it the what", "own"),
            ("", "own"),
        ];
        for (prompt, expected) in table {
            assert_eq!(pick(&settings, prompt).model, expected, "{prompt}");
        }
        assert_eq!(pick(&routed(&[]), "Hello").model, "own");
    }

    #[test]
    fn of_two_equally_similar_rules_the_first_wins() {
        let settings = routed(&[("one", &["sort numbers"]), ("two", &["sort letters"])]);
        assert_eq!(pick(&settings, "sort them").model, "one");
        assert_eq!(pick(&settings, "sort letters").model, "two");
    }

    proptest! {
        #[test]
        fn every_prompt_has_a_model(prompt in "\\PC*", example in "\\PC*") {
            let settings = routed(&[("one", &[&example])]);
            prop_assert!(["own", "one"].contains(&pick(&settings, &prompt).model.as_str()));
        }
    }
}
