//! Safety modes: how dangerous a call looks, and whether its mode lets it run. Pure.
//!
//! A label is a guess from names and words. It decides who is asked, and does not protect against a program that wants to
//! do harm: isolate the worker for that.

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

/// Programs that only read, whatever their arguments are.
const SAFE_PROGRAMS: [&str; 26] = [
    "ls", "pwd", "cat", "head", "tail", "wc", "grep", "rg", "echo", "printf", "date", "whoami", "id",
    "uname", "which", "stat", "file", "du", "df", "tree", "basename", "dirname", "realpath", "true", "seq",
    "cut",
];
/// Commands of programs that only read, as the beginning of a command line.
const SAFE_COMMANDS: [&str; 12] = [
    "git status",
    "git log",
    "git diff",
    "git show",
    "git blame",
    "git rev-parse",
    "git ls-files",
    "cargo --version",
    "go version",
    "node --version",
    "python --version",
    "python3 --version",
];
/// Options by which a program that reads writes a file, runs another program or sets something. Without a program, those of
/// all.
const UNSAFE_OPTIONS: [(&str, &str); 10] = [
    ("", "--output"),
    ("", "--ext-diff"),
    ("", "--textconv"),
    ("tree", "-o"),
    ("rg", "--pre"),
    ("rg", "--hostname-bin"),
    ("date", "-s"),
    ("date", "--set"),
    ("file", "-C"),
    ("file", "--compile"),
];
/// Programs that destroy, end or reach something that does not come back.
const DESTRUCTIVE_PROGRAMS: [&str; 24] = [
    "rm",
    "rmdir",
    "dd",
    "shred",
    "mkfs",
    "fdisk",
    "parted",
    "shutdown",
    "reboot",
    "halt",
    "poweroff",
    "kill",
    "killall",
    "pkill",
    "chmod",
    "chown",
    "sudo",
    "su",
    "doas",
    "truncate",
    "crontab",
    "systemctl",
    "iptables",
    "mv",
];
/// Pairs of words, the first the program and the second one of its arguments, that destroy.
const DESTRUCTIVE_ARGUMENTS: [(&str, &str); 16] = [
    ("git", "push"),
    ("git", "reset"),
    ("git", "clean"),
    ("git", "checkout"),
    ("git", "rebase"),
    ("find", "-delete"),
    ("find", "-exec"),
    ("docker", "rm"),
    ("docker", "rmi"),
    ("docker", "prune"),
    ("kubectl", "delete"),
    ("terraform", "destroy"),
    ("terraform", "apply"),
    ("npm", "publish"),
    ("cargo", "publish"),
    ("xargs", "rm"),
];
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
        return arguments.get("cmd").and_then(Value::as_str).map_or(Label::Unknown, label_of_command);
    }
    match spec.read_only {
        true => Label::Safe,
        false if DESTRUCTIVE_TOOLS.contains(&spec.name.as_str()) => Label::Destructive,
        false => Label::Unknown,
    }
}

/// The label of a command line. A line of several commands is never safe.
fn label_of_command(line: &str) -> Label {
    let is_separator = |c: char| "\n;|&<>`$(){}".contains(c);
    let commands: Vec<&str> =
        line.split(is_separator).map(str::trim).filter(|part| !part.is_empty()).collect();
    if commands.iter().any(|command| is_destructive(command)) {
        return Label::Destructive;
    }
    let is_compound = line.contains(is_separator);
    match commands.as_slice() {
        [command] if !is_compound && is_safe(command) => Label::Safe,
        _ => Label::Unknown,
    }
}

fn is_safe(command: &str) -> bool {
    let program = command.split_whitespace().next().unwrap_or_default();
    let begins_with = |safe: &&str| {
        command
            .strip_prefix(*safe)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
    };
    let is_unsafe = |word: &str| {
        let mut options = UNSAFE_OPTIONS.iter().filter(|(of, _)| of.is_empty() || *of == program);
        options.any(|(_, option)| word.starts_with(option))
    };
    !command.split_whitespace().any(is_unsafe)
        && (SAFE_PROGRAMS.contains(&program) || SAFE_COMMANDS.iter().any(begins_with))
}

fn is_destructive(command: &str) -> bool {
    // Variables before a program are not its name, nor is the folder that it is in.
    let mut words = command.split_whitespace().skip_while(|word| word.contains('='));
    let program = words.next().unwrap_or_default().trim_matches(['"', '\'', '\\']);
    let program = program.rsplit('/').next().unwrap_or_default();
    let named = |pair: &(&str, &str)| {
        pair.0 == program && command.split_whitespace().skip(1).any(|word| word == pair.1)
    };
    DESTRUCTIVE_PROGRAMS.contains(&program)
        || program.starts_with("mkfs.")
        || DESTRUCTIVE_ARGUMENTS.iter().any(named)
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
    fn commands_are_judged_by_their_words() {
        let table = [
            ("ls -la", Label::Safe),
            ("git status", Label::Safe),
            ("git log --oneline -n 5", Label::Safe),
            ("git logs", Label::Unknown),
            ("cargo test", Label::Unknown),
            ("ls; cat x", Label::Unknown),
            ("cat x > y", Label::Unknown),
            ("echo $(cat x)", Label::Unknown),
            ("git diff --output=x", Label::Unknown),
            ("tree -o x", Label::Unknown),
            ("grep -o x y", Label::Safe),
            ("rg --pre ./run x", Label::Unknown),
            ("date +%s", Label::Safe),
            ("date -s 2020-01-01", Label::Unknown),
            ("uniq a b", Label::Unknown),
            ("rm -rf build", Label::Destructive),
            ("/bin/rm x", Label::Destructive),
            ("FORCE=1 rm x", Label::Destructive),
            ("ls && sudo ls", Label::Destructive),
            ("echo `rm x`", Label::Destructive),
            ("git push --force", Label::Destructive),
            ("find . -name x -delete", Label::Destructive),
            ("mkfs.ext4 /dev/sda", Label::Destructive),
            ("", Label::Unknown),
        ];
        for (line, expected) in table {
            let arguments = json!({"cmd": line}).as_object().unwrap().clone();
            assert_eq!(label(&spec("shell", false), &arguments), expected, "{line}");
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
