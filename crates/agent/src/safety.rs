//! Safety modes: how dangerous a call looks, and whether its mode lets it run. Pure.
//!
//! A label is a guess from names and words. It decides who is asked, and does not protect against a program that wants to
//! do harm: isolate the worker for that.

mod command;
mod words;

use legwork_common::team::SafetyMode;
use serde_json::Map;
use serde_json::Value;

use crate::permission::Verdict;
use crate::tool::ToolSpec;

/// How dangerous a call looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// It changes nothing.
    Safe,
    /// It may destroy something, or reach far.
    Destructive,
    /// It is not known.
    Unknown,
}

/// Tools of this program that destroy something.
const DESTRUCTIVE_TOOLS: [&str; 6] = [
    "remove_directory",
    "delete_memory",
    "delete_plan",
    "delete_task",
    "stop_background_agent",
    "stop_background_job",
];
/// Tools whose `cmd` is a command of the shell.
const SHELL_TOOLS: [&str; 2] = ["shell", "run_background_job"];

/// The label of a call. Commands of the shell are judged by their words, other tools by what they state about
/// themselves.
pub(crate) fn label(spec: &ToolSpec, arguments: &Map<String, Value>) -> Label {
    if SHELL_TOOLS.contains(&spec.name.as_str()) {
        let text = |name| arguments.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let Some(cmd) = text("cmd") else { return Label::Unknown };
        return match command::label(cmd) {
            // A folder may be a repository whose settings name programs, which even `git status` runs.
            Label::Safe if cmd.contains("git") && text("cwd").is_some() => Label::Unknown,
            label => label,
        };
    }
    match spec.read_only {
        true => Label::Safe,
        false if DESTRUCTIVE_TOOLS.contains(&spec.name.as_str()) => Label::Destructive,
        false => Label::Unknown,
    }
}

/// What a mode says about a call with this label that no `deny` or `allow` of the team decides. `None` is a team without
/// a mode, where calls are allowed.
pub(crate) fn verdict(mode: Option<SafetyMode>, label: Label) -> Verdict {
    match (mode, label) {
        (None | Some(SafetyMode::Autonomous), _)
        | (Some(SafetyMode::Balanced | SafetyMode::Restricted), Label::Safe) => Verdict::Allowed,
        (Some(SafetyMode::Restricted), Label::Destructive | Label::Unknown) => Verdict::Denied,
        (Some(SafetyMode::Strict), _) | (Some(SafetyMode::Balanced), Label::Destructive | Label::Unknown) => {
            Verdict::NeedsApproval
        }
    }
}

/// The one of two modes that allows less. No mode allows more than any mode.
pub(crate) fn strictest(one: Option<SafetyMode>, other: Option<SafetyMode>) -> Option<SafetyMode> {
    let freedom = |mode: &SafetyMode| match mode {
        SafetyMode::Strict => 0,
        SafetyMode::Restricted => 1,
        SafetyMode::Balanced => 2,
        SafetyMode::Autonomous => 3,
    };
    [one, other].into_iter().flatten().min_by_key(freedom)
}

/// Whether the `ask` of a team counts in this mode: a person who chose to be asked less often is.
pub(crate) fn heeds_ask(mode: Option<SafetyMode>) -> bool {
    matches!(mode, None | Some(SafetyMode::Strict))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tool::Interrupted;

    fn spec(name: &str, read_only: bool) -> ToolSpec {
        ToolSpec {
            name: name.into(),
            description: String::new(),
            parameters: json!({}),
            read_only,
            interrupted: Interrupted::Report,
        }
    }

    #[test]
    fn a_command_is_judged_by_its_words_and_other_tools_by_what_they_state() {
        for (tool, line, expected) in [
            ("shell", "ls -la", Label::Safe),
            ("run_background_job", "rm x", Label::Destructive),
            ("shell", "cargo test", Label::Unknown),
        ] {
            let arguments = json!({"cmd": line}).as_object().unwrap().clone();
            assert_eq!(label(&spec(tool, false), &arguments), expected, "{line}");
        }
        for (line, expected) in [("git status", Label::Unknown), ("ls -la", Label::Safe)] {
            let arguments = json!({"cmd": line, "cwd": "cloned"}).as_object().unwrap().clone();
            assert_eq!(label(&spec("shell", false), &arguments), expected, "{line} in another folder");
        }
        let none = Map::new();
        assert_eq!(label(&spec("read_file", true), &none), Label::Safe);
        assert_eq!(label(&spec("write_file", false), &none), Label::Unknown);
        assert_eq!(label(&spec("remove_directory", false), &none), Label::Destructive);
    }

    #[test]
    fn the_stricter_of_two_modes_counts() {
        use SafetyMode::Autonomous;
        use SafetyMode::Balanced;
        use SafetyMode::Restricted;
        use SafetyMode::Strict;
        for (one, other, expected) in [
            (None, None, None),
            (None, Some(Autonomous), Some(Autonomous)),
            (Some(Strict), Some(Autonomous), Some(Strict)),
            (Some(Balanced), Some(Restricted), Some(Restricted)),
        ] {
            assert_eq!(strictest(one, other), expected);
            assert_eq!(strictest(other, one), expected);
        }
    }

    #[test]
    fn each_mode_has_its_row() {
        use Verdict::Allowed;
        use Verdict::Denied;
        use Verdict::NeedsApproval;
        let table = [
            (None, [Allowed, Allowed, Allowed]),
            (Some(SafetyMode::Strict), [NeedsApproval, NeedsApproval, NeedsApproval]),
            (Some(SafetyMode::Balanced), [Allowed, NeedsApproval, NeedsApproval]),
            (Some(SafetyMode::Restricted), [Allowed, Denied, Denied]),
            (Some(SafetyMode::Autonomous), [Allowed, Allowed, Allowed]),
        ];
        for (mode, expected) in table {
            let row = [Label::Safe, Label::Destructive, Label::Unknown].map(|label| verdict(mode, label));
            assert_eq!(row, expected, "{mode:?}");
        }
    }
}
