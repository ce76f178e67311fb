//! `git`: what a repository has, by the `git` of the worker. Nothing is changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::Kit;
use super::foreground;
use super::foreground::CommandEnd;
use super::schema;
use super::schema::Schema;
use crate::environment::Environment;
use crate::process::Nursery;
use crate::process::Process;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// How long one command may take. A blame of a large file takes seconds.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Commits of a log where the model does not say, and at most: docker-agent's.
const LOG_LIMITS: (u32, u32) = (20, 200);
/// The most lines of a blame: docker-agent's.
const MAX_BLAME_LINES: usize = 400;

/// The toolset.
pub(crate) fn open(environment: &Arc<Environment>, nursery: &Nursery) -> Kit {
    let tool = |(action, spec)| GitTool {
        spec,
        action,
        environment: Arc::clone(environment),
        nursery: nursery.clone(),
    };
    Kit::new(specs().map(tool))
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Status,
    Log,
    Branches,
    Show,
    Blame,
}

fn specs() -> [(Action, ToolSpec); 5] {
    let limit = json!({"type": "integer", "minimum": 1, "maximum": LOG_LIMITS.1});
    [
        (
            Action::Status,
            schema::read_only(
                "git_status",
                "Show the current branch and the changed files, as `git status --short`",
                Schema::new(),
            ),
        ),
        (
            Action::Log,
            schema::read_only(
                "git_log",
                "Show the latest commits: hash, date, author, subject",
                Schema::new().optional("limit", limit, "The most commits; 20 by default").optional(
                    "path",
                    schema::string(),
                    "Only commits that change this path",
                ),
            ),
        ),
        (
            Action::Branches,
            schema::read_only(
                "git_branches",
                "List the local branches; * marks the current one",
                Schema::new(),
            ),
        ),
        (
            Action::Show,
            schema::read_only(
                "git_show",
                "Show a commit: author, date, message, changed files",
                Schema::new().optional("ref", schema::string(), "The commit or revision; HEAD by default"),
            ),
        ),
        (
            Action::Blame,
            schema::read_only(
                "git_blame",
                "Show for each line of a file the commit and the author that changed it last",
                Schema::new().required("path", schema::string(), "The path of the file").optional(
                    "rev",
                    schema::string(),
                    "The commit or revision; HEAD by default",
                ),
            ),
        ),
    ]
}

#[derive(Debug, Default, Deserialize)]
struct Arguments {
    limit: Option<u32>,
    path: Option<String>,
    r#ref: Option<String>,
    rev: Option<String>,
}

/// The command line after `git`. Values of the model never stand where an option could.
fn command_line(action: Action, arguments: &Arguments) -> Result<Vec<String>, String> {
    let Arguments { limit, path, r#ref, rev } = arguments;
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut line = match action {
        Action::Status => words("status --short --branch --ignore-submodules=dirty"),
        Action::Branches => words("branch --no-color"),
        Action::Log => {
            let limit = limit.unwrap_or(LOG_LIMITS.0).clamp(1, LOG_LIMITS.1);
            words(&format!(
                "log --no-color --date=short --pretty=format:%h%x20%x20%ad%x20%x20%an%x20%x20%s -n {limit}"
            ))
        }
        Action::Show => words("show --no-color --no-ext-diff --no-textconv --stat --format=fuller"),
        Action::Blame => words("blame --no-textconv --date=short"),
    };
    let revision = match action {
        Action::Show => Some(r#ref.as_deref().unwrap_or_default()),
        Action::Blame => Some(rev.as_deref().unwrap_or_default()),
        Action::Status | Action::Branches | Action::Log => None,
    };
    if let Some(revision) = revision {
        let revision = if revision.trim().is_empty() { "HEAD" } else { revision };
        if revision.starts_with('-') {
            return Err(format!("{revision} is not a revision"));
        }
        line.push(revision.to_owned());
    }
    line.push("--".to_owned());
    match (action, path.as_deref()) {
        (Action::Log | Action::Blame, Some(path)) if !path.is_empty() => line.push(path.to_owned()),
        (Action::Blame, _) => return Err("path is required".to_owned()),
        _ => {}
    }
    Ok(line)
}

/// Settings of the repository that would run programs while it is only read. An agent that writes files can write the
/// repository's settings. Filters of file contents are switched off by name, see [`filters`]; submodules, which git would
/// read without these settings, are compared by their commits only.
const SAFE_SETTINGS: [&str; 6] =
    ["-c", "core.fsmonitor=false", "-c", "log.showSignature=false", "-c", "safe.bareRepository=explicit"];

/// Lists the settings of filters: for each where it is from and its name, each with a zero byte behind it.
const LIST_FILTERS: [&str; 7] =
    ["config", "--null", "--show-scope", "--name-only", "--includes", "--get-regexp", "^filter\\."];

/// Where a setting can be from.
const SCOPES: [&str; 7] = ["system", "global", "local", "worktree", "command", "submodule", "unknown"];

/// The names of the filters that the repository's own settings define, from the output of [`LIST_FILTERS`]. Those of the
/// user and of the system are the operator's. `None` for what is not such a list: a filter that is overlooked would run.
fn filters(listed: &str) -> Option<BTreeSet<String>> {
    let words: Vec<&str> = listed.split('\0').collect();
    let mut names = BTreeSet::new();
    for pair in words.chunks_exact(2) {
        // Warnings come over the same pipe, in lines of their own.
        let scope = pair[0].rsplit('\n').next().filter(|scope| SCOPES.contains(scope))?;
        let setting = pair[1].strip_prefix("filter.")?;
        if matches!(scope, "local" | "worktree") {
            names.extend(setting.rsplit_once('.').map(|(name, _key)| name.to_owned()));
        }
    }
    Some(names)
}

/// What git printed, and how it ended.
struct Printed {
    is_success: bool,
    text: String,
    /// Whether the end is missing.
    is_cut: bool,
}

#[derive(Debug)]
struct GitTool {
    spec: ToolSpec,
    action: Action,
    environment: Arc<Environment>,
    nursery: Nursery,
}

impl GitTool {
    async fn act(&self, arguments: Value, context: &ToolContext) -> Result<ToolOutcome, ToolOutcome> {
        let arguments: Arguments = schema::parse(&self.spec, arguments)?;
        let line = command_line(self.action, &arguments).map_err(ToolOutcome::error)?;
        // Of the actions only a status reads files of the working tree.
        let disabled = match self.action {
            Action::Status => self.disabled_filters(context).await?,
            Action::Log | Action::Branches | Action::Show | Action::Blame => Vec::new(),
        };
        match self.git(line, &disabled, context).await? {
            Printed { is_success: true, text, .. } => Ok(ToolOutcome::ok(shown(self.action, text))),
            Printed { text, .. } => Err(ToolOutcome::error(format!("Error: {}", text.trim()))),
        }
    }

    /// The settings that switch off the filters of the repository's own settings.
    async fn disabled_filters(
        &self,
        context: &ToolContext,
    ) -> Result<Vec<(String, &'static str)>, ToolOutcome> {
        let line = LIST_FILTERS.map(str::to_owned).to_vec();
        // It fails where there are none, and outside of a repository.
        let listed = self.git(line, &[], context).await?;
        let names = filters(&listed.text).filter(|_| !listed.is_cut);
        let names = names.ok_or_else(|| {
            ToolOutcome::error("Error: the filters in the settings of the repository cannot be listed")
        })?;
        let settings = names.into_iter().flat_map(|name| {
            let setting = move |(key, value)| (format!("filter.{name}.{key}"), value);
            [("clean", ""), ("smudge", ""), ("process", ""), ("required", "false")].map(setting)
        });
        Ok(settings.collect())
    }

    /// Runs git with these settings over those of the repository.
    async fn git(
        &self,
        line: Vec<String>,
        settings: &[(String, &'static str)],
        context: &ToolContext,
    ) -> Result<Printed, ToolOutcome> {
        let mut command = self.nursery.command("git");
        command
            .arg("--no-pager")
            .args(SAFE_SETTINGS)
            .args(line)
            .current_dir(&self.environment.working_dir)
            .env_clear()
            .envs(self.environment.command_variables())
            // A status must not write the index of a repository that another process works in.
            .env("GIT_OPTIONAL_LOCKS", "0")
            // Not with `-c`, where the name of a filter could have an equals sign.
            .env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (number, (key, value)) in settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        let mut process = Process::start(command, &self.nursery)
            .map_err(|error| ToolOutcome::error(format!("git cannot be started: {error}")))?;
        let end = foreground::finish(&mut process, TIMEOUT, &context.cancel).await;
        let (text, is_cut) = {
            let capture = process.capture();
            (capture.text(), capture.truncated)
        };
        match end {
            CommandEnd::Ended(end) => {
                Ok(Printed { is_success: end.status.is_some_and(|status| status.success()), text, is_cut })
            }
            CommandEnd::TimedOut => Err(ToolOutcome::error("git took longer than a minute")),
            CommandEnd::Cancelled => Err(ToolOutcome::error("Call cancelled")),
        }
    }
}

/// The output as the model is shown it.
fn shown(action: Action, text: String) -> String {
    let lines = text.lines().count();
    match action {
        Action::Blame if lines > MAX_BLAME_LINES => {
            let head: Vec<&str> = text.lines().take(MAX_BLAME_LINES).collect();
            format!("{}\n... ({} more lines truncated)\n", head.join("\n"), lines - MAX_BLAME_LINES)
        }
        Action::Status if lines <= 1 => format!("{text}Working tree clean.\n"),
        Action::Branches if text.trim().is_empty() => "No branches.".to_owned(),
        _ => text,
    }
}

#[async_trait]
impl Tool for GitTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        self.act(arguments, context).await.unwrap_or_else(|error| error)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::environment::NoGuard;
    use crate::testing;
    use crate::toolset::tests::call;

    fn git(folder: &Path, args: &[&str]) {
        let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
        let done = Command::new("git").args(identity).args(args).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    #[tokio::test]
    async fn a_repository_is_shown_and_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let mut environment = testing::environment(folder.path());
        environment.variables.insert("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
        environment.variables.insert("HOME".into(), folder.path().display().to_string());
        let tools = open(&Arc::new(environment), &Nursery::new(Arc::new(NoGuard))).tools;
        let refused = call(&tools, "git_log", json!({})).await;
        assert!(refused.is_error && refused.text.contains("not a git repository"), "{}", refused.text);

        git(folder.path(), &["init", "-q", "-b", "main"]);
        fs::write(folder.path().join("a.txt"), "one\ntwo\n").unwrap();
        git(folder.path(), &["add", "."]);
        git(folder.path(), &["commit", "-q", "-m", "First words"]);
        let text = async |name: &str, arguments: Value| call(&tools, name, arguments).await.text;
        assert_eq!(text("git_status", json!({})).await, "## main\nWorking tree clean.\n");
        assert_eq!(text("git_branches", json!({})).await, "* main\n");
        fs::write(folder.path().join("b.txt"), "").unwrap();
        assert!(text("git_status", json!({})).await.contains("?? b.txt"));
        let log = text("git_log", json!({"limit": 5, "path": "a.txt"})).await;
        assert!(log.contains("  Ada  First words"), "{log}");
        let show = text("git_show", json!({"ref": null})).await;
        assert!(show.contains("First words") && show.contains("a.txt | 2 ++"), "{show}");
        let blame = text("git_blame", json!({"path": "a.txt", "rev": "main"})).await;
        assert!(blame.contains("Ada") && blame.ends_with("two\n"), "{blame}");
        let written = call(&tools, "git_show", json!({"ref": "--output=stolen"})).await;
        assert!(written.is_error && !folder.path().join("stolen").exists(), "{}", written.text);

        let program = folder.path().join("program");
        fs::write(&program, "#!/bin/sh\necho ran >> \"$0.ran\"\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        git(folder.path(), &["config", "core.fsmonitor", program.to_str().unwrap()]);
        text("git_status", json!({})).await;
        let ran = folder.path().join("program.ran");
        assert!(!ran.exists(), "a program of the repository's settings ran");
        // It is one that git runs otherwise.
        git(folder.path(), &["status"]);
        assert!(ran.exists());
    }

    #[tokio::test]
    async fn neither_filters_nor_submodules_run_programs() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut environment = testing::environment(folder.path());
        environment.variables.insert("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
        environment.variables.insert("HOME".into(), at("home").display().to_string());
        let tools = open(&Arc::new(environment), &Nursery::new(Arc::new(NoGuard))).tools;
        git(folder.path(), &["init", "-q", "-b", "main"]);
        fs::create_dir(at("sub")).unwrap();
        git(&at("sub"), &["init", "-q", "-b", "main"]);
        for repository in [at("sub"), folder.path().to_owned()] {
            fs::write(repository.join("a.txt"), "one\n").unwrap();
            git(&repository, &["add", "."]);
            git(&repository, &["commit", "-q", "-m", "First words"]);
        }
        let ran = at("program.ran");
        let program = format!("sh -c 'echo ran >> {}; cat'", ran.display());
        fs::write(at(".git/info/attributes"), "*.txt filter=odd=.name\n").unwrap();
        for key in ["clean", "smudge"] {
            git(folder.path(), &["config", &format!("filter.odd=.name.{key}"), &program]);
        }
        git(folder.path(), &["config", "filter.odd=.name.required", "true"]);
        git(&at("sub"), &["config", "core.fsmonitor", at("program").to_str().unwrap()]);
        fs::write(at("program"), format!("#!/bin/sh\necho ran >> {}\n", ran.display())).unwrap();
        fs::set_permissions(at("program"), fs::Permissions::from_mode(0o755)).unwrap();
        // As long as before, so that only its content tells whether it changed.
        fs::write(at("a.txt"), "two\n").unwrap();
        let status = call(&tools, "git_status", json!({})).await.text;
        assert!(status.contains(" M a.txt"), "{status}");
        assert!(!ran.exists(), "a program of the repository's settings ran");
        for arguments in [["status", "--ignore-submodules=all"], ["status", "--ignore-submodules=none"]] {
            git(folder.path(), &arguments);
            assert!(ran.exists(), "{arguments:?}: git runs none otherwise either");
            fs::remove_file(&ran).unwrap();
            // The second one is about the submodule's program only.
            fs::remove_file(at(".git/info/attributes")).ok();
        }
    }

    #[test]
    fn filters_of_the_repository_are_told_from_those_of_the_user() {
        let listed = "global\0filter.lfs.clean\0local\0filter.a.b.clean\0worktree\0filter.c=d.process\0local\0filter.a.b.required\0";
        let found = Some(BTreeSet::from(["a.b".to_owned(), "c=d".to_owned()]));
        assert_eq!(filters(listed), found);
        assert_eq!(filters(&format!("warning: odd\n{listed}warning: odd\n")), found);
        assert_eq!(filters("error: no such file"), Some(BTreeSet::new()));
        for odd in ["warning: oddlocal\0filter.a.clean\0", "local\0clean\0filter.a.clean\0local\0"] {
            assert_eq!(filters(odd), None, "{odd}");
        }
    }

    #[tokio::test]
    async fn a_status_is_refused_where_not_all_filters_can_be_listed() {
        let folder = tempfile::tempdir().unwrap();
        let mut environment = testing::environment(folder.path());
        environment.variables.insert("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
        let tools = open(&Arc::new(environment), &Nursery::new(Arc::new(NoGuard))).tools;
        git(folder.path(), &["init", "-q", "-b", "main"]);
        // More than what is kept of a command's output.
        let name = "x".repeat(11 << 20);
        fs::write(folder.path().join(".git/config"), format!("[filter \"{name}\"]\n\tclean = false\n"))
            .unwrap();
        let status = call(&tools, "git_status", json!({})).await;
        assert!(status.is_error && status.text.contains("cannot be listed"), "{:.200}", status.text);
    }
}
