//! The keys of toolsets.

use super::CHECKED;
use super::Keys;
use super::between;
use super::no;
use super::noted;
use super::only;
use super::partly;
use super::refused;
use super::until;
use super::yes;

pub(in crate::team) const TOOLSET_TYPES: Keys = Keys {
    noun: "a toolset type",
    keys: &[
        yes("think"),
        yes("shell"),
        noted(
            "filesystem",
            "`.agentsignore` hides files from these tools, not from `shell`; an image reaches a model that takes images, up to 5 MiB of a result; other models get a sentence",
        ),
        yes("background_agents"),
        yes("todo"),
        partly(
            "mcp",
            "an image reaches a model that takes images; for audio and unknown content the model gets a sentence",
        ),
        partly("fetch", "content that is not text, such as a PDF, is one sentence with its type and size"),
        yes("memory"),
        yes("script"),
        yes("api"),
        partly(
            "openapi",
            "3.x, in JSON or in YAML (within the limits of an agent file); operations with a body that is not JSON, a required cookie, or a `$ref` to another document are skipped with a warning; `security` is ignored: set `headers` for authentication",
        ),
        partly(
            "a2a",
            "over JSON-RPC, versions 0.3 and 1.0 of the protocol, streamed where the agent's card offers it; text and data of the answer, no files; the next message answers a question of the agent; an agent card that names another host is rejected if `headers` are set",
        ),
        no("lsp", "no language server runs; the agent reads and searches files with `filesystem`"),
        yes("tasks"),
        noted(
            "user_prompt",
            "answered on the terminal of `legwork run`, and by `--answer` of `legwork approve` where jobs are parked (`approvals` of the policy); else its calls are refused",
        ),
        no("model_picker", "the agent's model stays"),
        noted("background_jobs", "the tools are part of `shell` too"),
        noted("file", "`read_file`, `write_file` and `edit_file` of `filesystem`"),
        noted("git", "runs the `git` of the worker"),
        yes("environment"),
        partly(
            "webhook",
            "the call waits until the message is delivered or refused; to public addresses, unless the worker's operator allows others",
        ),
        noted("plan", "one folder for all agents of this machine's user, in Legwork's state folder"),
        no("session_plan", "the agent has no plan; `todo` keeps a list"),
        no("session_context", "the agent sees no other session"),
        no("scheduler", "nothing is scheduled; `--delay` of a dispatch starts a job later"),
        partly("open_url", "a worker has no browser: the tool gives the agent the address, for its user"),
        no(
            "rag",
            "the agent cannot search these sources: no index is built on a worker, whose folders last as long as a job; an MCP server can search one that exists",
        ),
        no("mcp_catalog", "the agent has the servers of its own toolsets"),
    ],
};

/// What the lists of folders do not cover.
const LISTS: &str = "for the tools of this toolset, not for `shell`; links are resolved; an entry without meaning closes the toolset";

pub(in crate::team) const TOOLSET: Keys = Keys {
    noun: "a toolset",
    keys: &[
        yes("type"),
        yes("tools"),
        yes("instruction"),
        yes("toon"),
        yes("model"),
        yes("defer"),
        only(yes("command"), &["mcp", "lsp"]),
        only(yes("args"), &["mcp", "lsp"]),
        only(no("version", "the program on the PATH is used, and nothing is installed"), &["mcp", "lsp"]),
        only(
            partly(
                "ref",
                "through `docker mcp gateway run` on the worker; Legwork does not read Docker's catalog, so secrets are those that Docker stores there (`docker mcp secret`), and the catalog's remote servers are reached through the gateway too",
            ),
            &["mcp", "rag"],
        ),
        only(yes("remote"), &["mcp"]),
        only(yes("config"), &["mcp"]),
        only(yes("name"), &["mcp", "a2a", "rag", "open_url"]),
        only(yes("env"), &["shell", "background_jobs", "script", "mcp", "lsp"]),
        only(yes("url"), &["a2a", "openapi", "open_url"]),
        only(
            partly(
                "headers",
                "for `openapi`: sent to the URL of the description only if it is rejected without them",
            ),
            &["a2a", "openapi", "fetch"],
        ),
        only(yes("path"), &["memory", "tasks"]),
        only(
            noted("shared", "one list for the session: its root agent and its jobs, on any worker"),
            &["todo"],
        ),
        only(yes("shell"), &["script"]),
        only(yes("post_edit"), &["filesystem", "file"]),
        only(yes("ignore_vcs"), &["filesystem"]),
        only(partly("file_types", "checked; the toolsets that use it have no effect"), &["lsp"]),
        only(partly("models", "checked; the toolsets that use it have no effect"), &["model_picker"]),
        partly("timeout", "as in docker-agent, only for `fetch`"),
        yes("api_config"),
        yes("readonly"),
        only(yes("working_dir"), &["mcp", "lsp"]),
        only(
            partly("lifecycle", "for `mcp`; `required` is not enforced, as in docker-agent"),
            &["mcp", "lsp"],
        ),
        only(noted("allow_list", LISTS), &["filesystem", "file"]),
        only(noted("deny_list", LISTS), &["filesystem", "file"]),
        only(
            noted("allowed_domains", "redirects too; an IP address or a network is meant literally"),
            &["fetch"],
        ),
        only(
            noted(
                "blocked_domains",
                "redirects too; an IP address or a network also after names are resolved",
            ),
            &["fetch"],
        ),
        only(
            partly(
                "allow_private_ips",
                "`true` holds where the worker's operator allows it too; a remote MCP server is reached at any address, and `false` is refused there",
            ),
            &["fetch", "api", "openapi", "a2a", "mcp"],
        ),
        only(
            no(
                "recall",
                "the end of a background job is not announced; the agent checks with `view_background_job`",
            ),
            &["background_jobs"],
        ),
        only(no("sudo_askpass", "no one can type a password"), &["shell"]),
        only(
            refused(
                "safer",
                "no command asks for approval on its own; `safety: balanced` of the agent lets safe calls run and asks for others",
            ),
            &["shell"],
        ),
        only(no("allowed_servers", "the toolset has no effect"), &["mcp_catalog"]),
        only(no("blocked_servers", "the toolset has no effect"), &["mcp_catalog"]),
        only(no("escape_html", "HTML is never escaped"), &["fetch"]),
        only(no("rag_config", "the agent cannot search these sources"), &["rag"]),
        only(yes("webhook_config"), &["webhook"]),
        until(no("env_file", "set the variables in the environment of the worker"), 1),
        between(
            only(
                no(
                    "sandbox",
                    "commands run directly on the worker, in no container: isolate the worker itself",
                ),
                &["shell"],
            ),
            3,
            5,
        ),
    ],
};

pub(in crate::team) const EFFECTIVE_IN: &[(&str, &str)] = &[("timeout", "fetch"), ("api_config", "api")];

pub(in crate::team) const REMOTE: Keys = Keys {
    noun: "a remote",
    keys: &[
        yes("url"),
        yes("transport_type"),
        yes("headers"),
        no("oauth", "no one can log in on a worker; put a token into `headers`"),
    ],
};

pub(in crate::team) const POST_EDIT: Keys =
    Keys { noun: "a post-edit rule", keys: &[yes("path"), yes("cmd")] };

pub(in crate::team) const SCRIPT: Keys = Keys {
    noun: "a script",
    keys: &[
        yes("cmd"),
        yes("description"),
        yes("args"),
        noted("required", "without it, no argument is required"),
        yes("env"),
        yes("working_dir"),
    ],
};

pub(in crate::team) const API: Keys = Keys {
    noun: "an API",
    keys: &[
        yes("name"),
        yes("endpoint"),
        yes("method"),
        yes("instruction"),
        yes("headers"),
        yes("args"),
        yes("required"),
        yes("output_schema"),
    ],
};

pub(in crate::team) const SANDBOX: Keys =
    Keys { noun: "a sandbox", keys: &[partly("image", CHECKED), partly("paths", CHECKED)] };

pub(in crate::team) const OAUTH: Keys = Keys {
    noun: "an OAuth client",
    keys: &[
        partly("clientId", CHECKED),
        partly("clientSecret", CHECKED),
        partly("callbackPort", CHECKED),
        partly("scopes", CHECKED),
        partly("callbackRedirectURL", CHECKED),
    ],
};

pub(in crate::team) const LIFECYCLE: Keys = Keys {
    noun: "a lifecycle",
    keys: &[
        yes("profile"),
        partly("required", CHECKED),
        noted("startup_timeout", "1m where the file does not say"),
        noted("call_timeout", "2h where the file does not say"),
        partly("restart", "`on_failure` acts as `always`"),
        noted("max_restarts", "at most 1,000"),
        yes("backoff"),
    ],
};

pub(in crate::team) const BACKOFF: Keys =
    Keys { noun: "a backoff", keys: &[yes("initial"), yes("max"), yes("multiplier"), yes("jitter")] };

pub(in crate::team) const RAG_CONFIG: Keys = Keys {
    noun: "a RAG configuration",
    keys: &[
        partly("tool", CHECKED),
        partly("docs", CHECKED),
        partly("respect_vcs", CHECKED),
        partly("indexing_timeout", CHECKED),
        partly("strategies", CHECKED),
        partly("results", CHECKED),
    ],
};

pub(in crate::team) const WEBHOOK: Keys = Keys {
    noun: "a webhook",
    keys: &[yes("provider"), yes("url"), yes("headers"), noted("chat_id", "for `telegram`")],
};
