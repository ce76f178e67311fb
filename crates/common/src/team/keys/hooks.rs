//! The keys of hooks: the events, and what runs at them.

use super::CHECKED;
use super::Key;
use super::Keys;
use super::no;
use super::partly;
use super::refused;

/// An event whose hooks can hold back or rewrite what the agent does: without them it would do more than its author
/// wants.
const fn holding(name: &'static str) -> Key {
    refused(
        name,
        "no hook runs, and this one can hold back or rewrite what the agent does; use `permissions`",
    )
}

/// An event whose hooks observe, or add to what the agent knows.
const fn observing(name: &'static str) -> Key {
    no(name, "no hook runs")
}

pub(in crate::team) const HOOKS: Keys = Keys {
    noun: "the hooks",
    keys: &[
        holding("pre_tool_use"),
        holding("permission_request"),
        holding("tool_input_transform"),
        holding("tool_guard"),
        holding("tool_response_transform"),
        holding("before_llm_call"),
        holding("user_prompt_submit"),
        holding("before_compaction"),
        observing("post_tool_use"),
        observing("session_start"),
        observing("session_end"),
        observing("turn_start"),
        observing("turn_end"),
        observing("after_llm_call"),
        observing("pre_compact"),
        observing("after_compaction"),
        observing("subagent_stop"),
        observing("on_user_input"),
        observing("stop"),
        observing("notification"),
        observing("on_error"),
        observing("on_max_iterations"),
        observing("on_agent_switch"),
        observing("on_tool_approval_decision"),
        observing("on_session_resume"),
        observing("user_steering_messages_submit"),
        observing("user_followup_submit"),
        observing("worktree_create"),
    ],
};

pub(in crate::team) const HOOK_MATCHER: Keys = Keys {
    noun: "a hook matcher",
    keys: &[partly("matcher", CHECKED), partly("hooks", CHECKED), partly("preempt_yolo", CHECKED)],
};

pub(in crate::team) const HOOK: Keys = Keys {
    noun: "a hook",
    keys: &[
        partly("type", CHECKED),
        partly("command", CHECKED),
        partly("args", CHECKED),
        partly("name", CHECKED),
        partly("timeout", CHECKED),
        partly("env", CHECKED),
        partly("working_dir", CHECKED),
        partly("on_error", CHECKED),
        partly("strict_output", CHECKED),
        partly("model", CHECKED),
        partly("prompt", CHECKED),
        partly("schema", CHECKED),
    ],
};

pub(in crate::team) const HOOK_TYPES: Keys = Keys {
    noun: "a hook type",
    keys: &[partly("command", CHECKED), partly("builtin", CHECKED), partly("model", CHECKED)],
};

/// The hooks that are part of docker-agent.
pub(in crate::team) const BUILTIN_HOOKS: Keys = Keys {
    noun: "a built-in hook",
    keys: &[
        partly("add_date", CHECKED),
        partly("add_environment_info", CHECKED),
        partly("add_prompt_files", CHECKED),
        partly("add_git_status", CHECKED),
        partly("add_git_diff", CHECKED),
        partly("add_directory_listing", CHECKED),
        partly("add_user_info", CHECKED),
        partly("add_recent_commits", CHECKED),
        partly("add_context", CHECKED),
        partly("max_iterations", CHECKED),
        partly("snapshot", CHECKED),
        partly("redact_secrets", CHECKED),
        partly("limit_large_tool_results", CHECKED),
        partly("elide_repeated_tool_results", CHECKED),
        partly("http_post", CHECKED),
        partly("unload", CHECKED),
        partly("safer_shell", CHECKED),
    ],
};
