//! Which model takes a turn where rules send some turns to others. Pure.
//!
//! A rule has examples of what users say. The rule whose examples share the most telling words with what was said takes
//! the turn; where none shares any, the model's own settings do. How telling a word is follows from how few examples
//! have it (the inverse document frequency, Spärck Jones 1972).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use legwork_common::team::ModelSettings;

/// Words that are in everything that people say.
const COMMON: [&str; 36] = [
    "a", "about", "an", "and", "are", "as", "at", "be", "by", "can", "do", "for", "from", "how", "i", "in",
    "is", "it", "me", "my", "of", "on", "or", "please", "should", "that", "the", "this", "to", "was", "what",
    "when", "which", "with", "you", "your",
];

/// The model that takes the turn after `said`.
pub(crate) fn pick<'m>(settings: &'m ModelSettings, said: &str) -> &'m ModelSettings {
    if settings.routing.is_empty() {
        return settings;
    }
    let said = words(said);
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
    let telling =
        |word: &String| frequency.get(word.as_str()).map_or(0.0, |&has| (1.0 + all / f64::from(has)).ln());
    let mut best = (0.0, settings);
    for (rule, example) in &examples {
        let shared: f64 = example.intersection(&said).map(telling).sum();
        let whole: f64 = example.iter().map(telling).sum();
        // Of what the example says, how much was said.
        let score = if whole > 0.0 { shared / whole } else { 0.0 };
        if score > best.0 {
            best = (score, &settings.routing[*rule].model);
        }
    }
    best.1
}

/// The words of a text that tell something, in small letters.
fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .map(str::to_lowercase)
        .filter(|word| !word.is_empty() && !COMMON.contains(&word.as_str()))
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
    fn the_rule_whose_examples_are_nearest_takes_the_turn() {
        let settings = routed(&[
            ("small", &["What time is it?", "Say hello"]),
            ("coder", &["Fix a bug in this function", "Write a unit test", "Refactor the module"]),
            ("silent", &[]),
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
        for (said, expected) in table {
            assert_eq!(pick(&settings, said).model, expected, "{said}");
        }
        assert_eq!(pick(&routed(&[]), "Hello").model, "own");
    }

    #[test]
    fn of_two_that_are_equally_near_the_first_takes_it() {
        let settings = routed(&[("one", &["sort numbers"]), ("two", &["sort letters"])]);
        assert_eq!(pick(&settings, "sort them").model, "one");
        assert_eq!(pick(&settings, "sort letters").model, "two");
    }

    proptest! {
        #[test]
        fn some_model_takes_every_turn(said in "\\PC*", example in "\\PC*") {
            let settings = routed(&[("one", &[&example])]);
            prop_assert!(["own", "one"].contains(&pick(&settings, &said).model.as_str()));
        }
    }
}
