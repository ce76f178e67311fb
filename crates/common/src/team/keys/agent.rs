//! The keys of agents.

use super::Keys;
use super::no;
use super::noted;
use super::partly;
use super::refused;
use super::until;
use super::yes;

pub(in crate::team) const AGENT: Keys = Keys {
    noun: "an agent",
    keys: &[
        yes("model"),
        noted(
            "command",
            "specific to Legwork: a program in place of a model ([how it is called](other-agents.md))",
        ),
        noted("env", "specific to Legwork, with `command`"),
        noted("working_dir", "specific to Legwork, with `command` or `harness`"),
        noted("description", "part of every system prompt that lists the agent"),
        partly(
            "instruction",
            "a string, or a list of strings that are joined by empty lines; of JavaScript only `${env.X}` is replaced",
        ),
        noted(
            "instruction_file",
            "read where the team is submitted, from the folder of the agent file or below",
        ),
        partly("harness", "the program runs as an agent with `command`, and must be installed on the worker"),
        yes("toolsets"),
        yes("use_toolsets"),
        noted("use_commands", "the agent's own commands win"),
        noted("use_skills", "as for `skills`"),
        partly(
            "sub_agents",
            "agents by URL or image are not loaded; the agent runs without them, with a warning",
        ),
        yes("force_handoff"),
        yes("readonly"),
        partly(
            "safety",
            "the modes and their order; labels of commands are Legwork's own, and without a mode every call runs",
        ),
        partly(
            "redact_secrets",
            "secrets of well-known shapes are removed from arguments, results and requests; replies stay as they came",
        ),
        noted(
            "max_iterations",
            "500 where the file sets none, which is specific to Legwork; 0 means no limit",
        ),
        noted(
            "max_consecutive_tool_calls",
            "5 by default; calls that only poll background work do not count",
        ),
        yes("max_tool_result_tokens"),
        yes("max_old_tool_call_tokens"),
        yes("session_compaction"),
        noted("compaction_model", "the agent's own models follow where it fails"),
        noted("compaction_threshold", "0.9 by default"),
        yes("budgets"),
        partly(
            "cache",
            "a message that was answered before gets that answer without a model call; without `path`, the answers are those of the same conversation",
        ),
        refused("routing", "no evaluator chooses the next agent; remove the key"),
        refused("subagents", "name the agents in `sub_agents`"),
        no("inject_memories", "the agent reads its memory with the tools of `memory`"),
        no("max_inject_memories", "the agent reads its memory with the tools of `memory`"),
        yes("add_date"),
        yes("add_environment_info"),
        partly(
            "handoffs",
            "agents by URL or image are not loaded; the agent runs without them, with a warning",
        ),
        partly(
            "commands",
            "run as `/name arguments` in the prompt of `legwork run`, with `${…}` and `!tool(key=\"value\")`; of JavaScript: `args`, `env`, calls of tools, literals, operators, and the methods that `check` lists for an unknown one; what cannot be run stays as it is written, with a warning",
        ),
        noted("welcome_message", "shown before the first prompt of `legwork run` on a terminal"),
        no("rag", "the agent cannot search these sources"),
        partly(
            "add_prompt_files",
            "searched from the working directory upwards, and in the home folder; at most 30,000 characters of each",
        ),
        noted(
            "add_prompt_files_depth",
            "their paths are listed, at most 100; folders that Git ignores are not searched",
        ),
        yes("fallback"),
        no("code_mode_tools", "the tools are called one by one: no JavaScript runs on a worker"),
        partly(
            "skills",
            "those of the machine and of the file, with read_skill, read_skill_file and run_skill; sources by URL are left out with a warning",
        ),
        partly("hooks", "events that a worker does not have run none; see below"),
        partly(
            "structured_output",
            "`native`: requested from every provider in its own way, and not validated; `tool`: validated",
        ),
        yes("num_history_items"),
        partly(
            "add_description_parameter",
            "every tool gets the argument, not only those that docker-agent selects",
        ),
        until(no("name", "an agent is named by its key"), 0),
        until(yes("think"), 0),
        until(yes("todo"), 0),
        until(yes("memory"), 0),
    ],
};

pub(in crate::team) const COMMAND: Keys = Keys {
    noun: "a command",
    keys: &[
        yes("description"),
        yes("instruction"),
        no("agent", "the current agent gets the prompt"),
        no("url", "no browser is opened"),
    ],
};

pub(in crate::team) const FALLBACK: Keys =
    Keys { noun: "a fallback", keys: &[yes("models"), yes("retries"), yes("cooldown")] };

pub(in crate::team) const STRUCTURED_OUTPUT: Keys = Keys {
    noun: "a structured output",
    keys: &[
        noted("name", "stored, and sent in the provider's format"),
        noted("description", "stored, and sent in the provider's format"),
        partly("strict", "strict validation depends on the provider"),
        noted("schema", "stored, and sent in the provider's format"),
        noted(
            "mode",
            "`tool`: the model answers by calling `submit_answer`, whose arguments are validated; it is reminded three times",
        ),
    ],
};

pub(in crate::team) const TODO_LIST: Keys = Keys { noun: "a todo list", keys: &[yes("shared")] };

pub(in crate::team) const MEMORY: Keys = Keys { noun: "a memory", keys: &[yes("path")] };

pub(in crate::team) const HARNESS: Keys = Keys {
    noun: "a harness",
    keys: &[yes("type"), yes("model"), yes("effort"), yes("agent"), yes("thinking")],
};

/// The programs that a harness can name, each with the command that it becomes.
pub(in crate::team) const HARNESS_TYPES: Keys = Keys {
    noun: "a harness type",
    keys: &[
        noted("claude-code", "`claude -p --output-format text --permission-mode acceptEdits`"),
        noted("codex", "`codex exec --sandbox workspace-write --skip-git-repo-check -`"),
        noted("opencode", "`opencode run`, with the task as its argument"),
        noted("pi", "`pi -p`, with the task as its argument"),
    ],
};

pub(in crate::team) const SKILL: Keys = Keys {
    noun: "a skill",
    keys: &[
        yes("name"),
        yes("description"),
        yes("instructions"),
        partly(
            "context",
            "`fork`: run_skill runs it in a conversation of its own, with the agent's tools other than those for sub-agents; in a job, calls that would ask a person are rejected there",
        ),
        noted("model", "with `context: fork`"),
        noted("allowed_tools", "with `context: fork`: the agent's tools that it gets"),
        noted("toolsets", "with `context: fork`: named toolsets that it gets in addition"),
    ],
};

pub(in crate::team) const RESPONSE_CACHE: Keys = Keys {
    noun: "a cache",
    keys: &[
        yes("enabled"),
        yes("case_sensitive"),
        yes("trim_spaces"),
        noted(
            "path",
            "a JSON file below the working directory, which several workers may use at once; at most 4 MiB",
        ),
    ],
};
