//! How often in a row a model made the same calls. Pure.

use serde_json::Value;

use crate::message::ToolCall;

/// Tools that a model calls again and again while it waits for others. A reply that calls only these neither counts nor
/// interrupts a repetition.
const POLLING_TOOLS: [&str; 6] = [
    "list_background_agents",
    "view_background_agent",
    "wait_background_agent",
    "wait_background_agents",
    "view_background_job",
    "wait_background_job",
];

/// The calls of the last reply that had any, and how many replies in a row made them.
#[derive(Debug, Clone, Default)]
pub(super) struct Repetition {
    calls: Vec<(String, Value)>,
    times: u32,
}

impl Repetition {
    /// Counts the calls of a reply. The same calls are those with the same names and arguments in the same order; how the
    /// arguments are spaced and ordered does not matter.
    pub(super) fn count(&mut self, calls: &[ToolCall]) {
        if !calls.is_empty() && calls.iter().all(|call| POLLING_TOOLS.contains(&call.name.as_str())) {
            return;
        }
        let calls: Vec<_> = calls.iter().map(|call| (call.name.clone(), arguments(call))).collect();
        self.times = if calls == self.calls { self.times + 1 } else { 1 };
        self.calls = calls;
    }

    /// Forgets what was counted: there is something new for the model.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The tool that was called first, and how many replies in a row made the same calls; 0 where there were none.
    pub(super) fn repeated(&self) -> (&str, u32) {
        self.calls.first().map_or(("", 0), |(name, _)| (name, self.times))
    }
}

/// The arguments as JSON; as text where they are not valid.
fn arguments(call: &ToolCall) -> Value {
    match call.arguments.trim() {
        "" => Value::Object(serde_json::Map::new()),
        text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: "i".into(), name: name.into(), arguments: arguments.into(), thought_signature: None }
    }

    #[test]
    fn counts_equal_batches_whatever_the_order_of_their_arguments() {
        let mut repetition = Repetition::default();
        let mut after = |calls: &[ToolCall]| {
            repetition.count(calls);
            repetition.repeated().1
        };
        assert_eq!(after(&[call("shell", r#"{"cmd":"x","cwd":"/"}"#)]), 1);
        assert_eq!(after(&[call("shell", r#"{ "cwd": "/", "cmd": "x" }"#)]), 2);
        assert_eq!(
            after(&[call("view_background_agent", r#"{"task_id":"t"}"#)]),
            2,
            "polling does not count"
        );
        assert_eq!(after(&[call("shell", r#"{"cmd":"x","cwd":"/"}"#)]), 3, "and does not interrupt");
        assert_eq!(after(&[call("shell", r#"{"cmd":"y","cwd":"/"}"#)]), 1);
        let both = [call("shell", ""), call("view_background_agent", "")];
        assert_eq!(after(&both), 1);
        assert_eq!(after(&both), 2, "a batch that does more than polling counts");
        assert_eq!(after(&[call("shell", "{}"), call("view_background_agent", " ")]), 3);
        assert_eq!(after(&[call("shell", "{broken")]), 1);
        assert_eq!(after(&[call("shell", "{broken")]), 2);
        assert_eq!(after(&[]), 0, "an answer without calls ends it");
    }
}
