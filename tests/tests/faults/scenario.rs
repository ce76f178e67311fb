//! What the jobs of a life do.

use serde_json::Value;
use serde_json::json;

/// The team of all plots.
pub(crate) const TEAM: &str = "
agents:
  root: {model: scripted/any, instruction: Coordinate., sub_agents: [parent]}
  parent:
    model: scripted/any
    description: Lets another one work.
    instruction: Delegate.
    sub_agents: [child]
    toolsets: [{type: background_agents}, {type: shell}]
  child: {model: scripted/any, description: Runs a command., instruction: Run it., toolsets: [{type: shell}]}
";

/// A parent with one child below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// The parent runs a command beside it and waits for it.
    Waits,
    /// The parent rests, and is told of its end.
    Told,
    /// Both are stopped while the child runs a command.
    Stopped,
}

impl Scenario {
    pub(crate) const ALL: [Self; 3] = [Self::Waits, Self::Told, Self::Stopped];

    /// What the agents say and call; commands leave a line in `marks`, and the long one sleeps for `sleep`.
    pub(crate) fn script(self, marks: &str, sleep: &str) -> Value {
        let shell = |cmd: String| json!({"name": "shell", "arguments": {"cmd": cmd, "timeout": 100}});
        let begins = json!({"name": "run_background_agent", "arguments": {"agent": "child", "task": "work"}});
        let waits = json!({"name": "wait_background_agents", "arguments": {"task_ids": ["{{jobs}}"]}});
        let marked = |who: &str| shell(format!("echo {who} >> {marks}"));
        let talks = |text: &str| json!({"text": text, "chunk_delay_ms": 12});
        let child = match self {
            Self::Waits | Self::Told => json!([
                {"text": "I run.\n", "tool_calls": [marked("child")]},
                talks("one two three four five six"),
            ]),
            // One whose command is cut off sleeps again: it does not end by itself.
            Self::Stopped => (1..10)
                .map(|turn| {
                    let cmd = format!("echo child{turn} >> {marks}; sleep {sleep}");
                    json!({"text": "I sleep.\n", "tool_calls": [shell(cmd)]})
                })
                .collect(),
        };
        let parent = match self {
            Self::Waits => json!([
                {"text": "I begin.\n", "tool_calls": [begins, marked("parent")]},
                {"text": "I wait.\n", "tool_calls": [waits]},
                talks("All is done."),
            ]),
            Self::Told => json!([
                {"text": "I begin.\n", "tool_calls": [begins]},
                talks("I rest."),
                talks("I was told."),
            ]),
            Self::Stopped => json!([
                {"text": "I begin.\n", "tool_calls": [begins]},
                {"text": "I wait.\n", "tool_calls": [waits]},
                talks("never"),
            ]),
        };
        json!({"agents": {"parent": parent, "child": child}})
    }

    /// What an agent says in each of its turns.
    pub(crate) fn turns_of(self, agent: &str) -> Vec<String> {
        let script = self.script("", "");
        let turns = script["agents"][agent].as_array().unwrap();
        turns.iter().map(|turn| turn["text"].as_str().unwrap().to_owned()).collect()
    }

    /// The commands that are run for a scenario that nothing cuts off.
    pub(crate) fn commands(self) -> &'static [&'static str] {
        match self {
            Self::Waits => &["child", "parent"],
            Self::Told => &["child"],
            Self::Stopped => &["child1"],
        }
    }
}
