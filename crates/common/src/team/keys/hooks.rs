//! The keys of hooks: the events, and what runs at them.

use super::Key;
use super::Keys;
use super::no;
use super::noted;
use super::partly;
use super::refused;
use super::yes;

/// An event whose hooks observe, or add to what the agent knows.
const fn observing(name: &'static str) -> Key {
    no(name, "no hook runs")
}

pub(in crate::team) const HOOKS: Keys = Keys {
    noun: "the hooks",
    keys: &[
        yes("pre_tool_use"),
        yes("permission_request"),
        yes("tool_input_transform"),
        yes("tool_guard"),
        yes("tool_response_transform"),
        yes("before_llm_call"),
        yes("user_prompt_submit"),
        yes("before_compaction"),
        yes("post_tool_use"),
        noted("session_start", "at the start of each attempt"),
        yes("session_end"),
        yes("turn_start"),
        yes("turn_end"),
        yes("after_llm_call"),
        yes("pre_compact"),
        yes("after_compaction"),
        noted("subagent_stop", "when the agent is told of the end, by a tool or by mail"),
        observing("on_user_input"),
        yes("stop"),
        noted("notification", "of errors, and of used up iterations"),
        yes("on_error"),
        yes("on_max_iterations"),
        yes("on_agent_switch"),
        yes("on_tool_approval_decision"),
        observing("on_session_resume"),
        observing("user_steering_messages_submit"),
        observing("user_followup_submit"),
        observing("worktree_create"),
    ],
};

pub(in crate::team) const HOOK_MATCHER: Keys = Keys {
    noun: "a hook matcher",
    keys: &[yes("matcher"), yes("hooks"), noted("preempt_yolo", "the hooks run in every mode")],
};

pub(in crate::team) const HOOK: Keys = Keys {
    noun: "a hook",
    keys: &[
        yes("type"),
        yes("command"),
        yes("args"),
        yes("name"),
        yes("timeout"),
        yes("env"),
        yes("working_dir"),
        yes("on_error"),
        yes("strict_output"),
        yes("model"),
        partly(
            "prompt",
            "fields of the event, `toJSON`, `truncate` and pipes; other parts of Go's templates are errors",
        ),
        noted("schema", "`pre_tool_use_decision`; without it the answer is a text for the agent's model"),
    ],
};

pub(in crate::team) const HOOK_TYPES: Keys = Keys {
    noun: "a hook type",
    keys: &[
        yes("command"),
        partly("builtin", "those of the list below"),
        partly("model", "its tokens are not part of the usage of the job"),
    ],
};

/// The hooks that are part of docker-agent.
pub(in crate::team) const BUILTIN_HOOKS: Keys = Keys {
    noun: "a built-in hook",
    keys: &[
        yes("add_date"),
        yes("add_environment_info"),
        yes("add_prompt_files"),
        yes("add_git_status"),
        yes("add_git_diff"),
        yes("add_directory_listing"),
        yes("add_user_info"),
        yes("add_recent_commits"),
        partly("add_context", "the templates are those of `prompt`"),
        noted("max_iterations", "at `before_llm_call`: the run fails"),
        no("snapshot", "no copy of the files is made; let the agent work in a repository of Git"),
        noted("redact_secrets", "always on"),
        noted("limit_large_tool_results", "always on"),
        noted("elide_repeated_tool_results", "at `tool_response_transform`"),
        noted("http_post", "to public addresses, unless the worker's operator allows others"),
        no("unload", "models stay loaded: jobs of other agents may be using them"),
        refused("safer_shell", "use `safety: balanced`"),
    ],
};
