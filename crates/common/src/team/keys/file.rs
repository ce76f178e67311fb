//! The keys of the file itself, and of its small maps.

use super::CHECKED;
use super::Keys;
use super::between;
use super::no;
use super::noted;
use super::partly;
use super::refused;
use super::until;
use super::yes;

pub(in crate::team) const FILE: Keys = Keys {
    noun: "the file",
    keys: &[
        yes("version"),
        yes("agents"),
        yes("models"),
        yes("providers"),
        yes("mcps"),
        partly("metadata", "stored with the team; not used"),
        no("rag", "no agent searches these sources"),
        yes("permissions"),
        noted("toolsets", "named toolsets, for `use_toolsets` of the agents"),
        noted("commands", "named maps of commands, for `use_commands` of the agents"),
        noted("skills", "named skills, for `use_skills` of the agents"),
        yes("runtime"),
        yes("budget"),
        noted("budgets", "one pot for the session and all of its jobs, as `budget`"),
        no("flavors", "no flavor is applied: write the changes into the file"),
        refused("evaluators", "no evaluator runs; remove it and what refers to it"),
        until(no("env", "set the variables in the environment of the worker"), 1),
    ],
};

pub(in crate::team) const RAG: Keys = Keys {
    noun: "a RAG source",
    keys: &[
        partly("instruction", CHECKED),
        partly("tools", CHECKED),
        partly("name", CHECKED),
        partly("defer", CHECKED),
        partly("indexing_timeout", CHECKED),
        partly("tool", CHECKED),
        partly("docs", CHECKED),
        partly("respect_vcs", CHECKED),
        partly("strategies", CHECKED),
        partly("results", CHECKED),
        between(no("description", "no agent searches this source"), 2, 2),
    ],
};

pub(in crate::team) const METADATA: Keys = Keys {
    noun: "the metadata",
    keys: &[
        partly("author", "stored with the team; not used"),
        partly("license", "stored with the team; not used"),
        partly("description", "stored with the team; not used"),
        partly("readme", "stored with the team; not used"),
        partly("version", "stored with the team; not used"),
        partly("tags", "stored with the team; not used"),
    ],
};

pub(in crate::team) const PERMISSIONS: Keys = Keys {
    noun: "the permissions",
    keys: &[
        yes("allow"),
        partly(
            "ask",
            "`legwork run` asks its user on a terminal; in the background the call is rejected with an error that the model sees, or its job is parked until a person answers (`approvals` of the policy)",
        ),
        yes("deny"),
    ],
};

pub(in crate::team) const RUNTIME: Keys = Keys {
    noun: "the runtime defaults",
    keys: &[
        partly("safety", "as for an agent, whose own mode wins"),
        refused(
            "sandbox",
            "commands run directly on the worker; isolate the worker itself, and remove the key",
        ),
        no("network_allowlist", "it opens hosts of a sandbox, and there is none"),
    ],
};

pub(in crate::team) const BUDGET: Keys = Keys {
    noun: "a budget",
    keys: &[
        noted("max_tokens", "one pot for the session and all of its jobs; `--session-budget` wins"),
        noted(
            "max_cost",
            "checked between turns, by `cost` of the models, the `prices` of the policy or the table of prices; models without a price add nothing",
        ),
        noted("max_time", "the time of all turns, checked between them"),
    ],
};
