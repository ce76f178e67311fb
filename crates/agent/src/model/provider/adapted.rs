//! What of a model's settings no request can carry, told before anything is asked. Pure.

use legwork_common::team::ModelSettings;
use legwork_models::conversation::Message;
use legwork_models::wire::Ask;
use serde_json::Value;

use super::request;
use super::target;
use crate::environment::Environment;

/// The settings that are not sent as the agent file has them, each as a sentence without its end: the name of the setting in
/// backquotes, then what is done instead and why. None for a model whose provider cannot be told. `form` is
/// `structured_output`.
///
/// # Errors
///
/// The same of a setting with which no request is made, because the provider would refuse each.
pub fn adapted_settings(
    settings: &ModelSettings,
    form: Option<&Value>,
    environment: &Environment,
) -> Result<Vec<String>, String> {
    let Ok(wire) = target::wire_of(settings, environment) else { return Ok(Vec::new()) };
    let ask = Ask { messages: &[Message::user("hello")], tools: &[] };
    match wire.prepare(&request::settings(settings, form), &ask, "") {
        Ok(prepared) => {
            let notes = prepared.request.notes.iter();
            Ok(notes.map(|note| format!("`{}` {}", note.setting, note.change)).collect())
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use legwork_common::team::ThinkingBudget;

    use super::*;

    fn told(reference: &str, change: impl FnOnce(&mut ModelSettings)) -> Result<Vec<String>, String> {
        let (provider, model) = reference.split_once('/').unwrap();
        let mut settings = ModelSettings::inline(provider, model).unwrap();
        change(&mut settings);
        adapted_settings(&settings, None, &Environment::new(BTreeMap::new(), "/".into()))
    }

    #[test]
    fn what_a_provider_would_refuse_is_told() {
        let thinks = |budget: i64| {
            move |settings: &mut ModelSettings| {
                settings.thinking_budget = Some(ThinkingBudget::Tokens(budget));
                settings.max_tokens = Some(4000);
                settings.temperature = Some(0.3);
            }
        };
        let sonnet = "anthropic/claude-sonnet-4-5";
        let left_out = told(sonnet, thinks(1024)).unwrap();
        assert!(
            left_out.len() == 1 && left_out[0].starts_with("`temperature` is left out: "),
            "{left_out:?}"
        );
        let refused = told(sonnet, thinks(16_000)).unwrap_err();
        assert!(
            refused.starts_with("`thinking_budget` of 16000 tokens must be less than `max_tokens`"),
            "{refused}"
        );
        let effort = |settings: &mut ModelSettings| {
            settings.thinking_budget = Some(ThinkingBudget::Effort("high".into()));
        };
        let plain = told("openai/gpt-4o", effort).unwrap();
        assert!(plain.len() == 1 && plain[0].starts_with("`thinking_budget` "), "{plain:?}");
        assert_eq!(told("openai/gpt-5", effort), Ok(Vec::new()));
        assert_eq!(told("scripted/any", thinks(1024)), Ok(Vec::new()));
    }
}
