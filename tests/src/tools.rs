//! Third-party programs, and our clients, that scripts install for some of the tests.

use std::env;
use std::io::Write as _;
use std::path::PathBuf;

use legwork_common::variables;

/// Path of an installed program or folder. If it is missing, the test should skip: the reason is written to the real
/// standard error, which the test harness does not capture.
pub fn installed(path: &str) -> Option<String> {
    installed_by(path, "install-mcp-tools")
}

/// The same for what another script installs.
pub fn installed_by(path: &str, script: &str) -> Option<String> {
    let home = || env::var_os(variables::HOME).map(|home| PathBuf::from(home).join(".cache"));
    let cache = env::var_os(variables::XDG_CACHE_HOME).map(PathBuf::from).or_else(home)?;
    let tool = cache.join("legwork-test-tools").join(path);
    if tool.exists() {
        return Some(tool.display().to_string());
    }
    let tool = tool.display();
    writeln!(std::io::stderr(), "skipped: {tool} is not installed; run scripts/{script}").ok()?;
    None
}

/// The first of these programs on the path. If there is none, the test should skip: the reason is written as above.
pub fn on_path(names: &[&str]) -> Option<String> {
    let path = env::var_os(variables::PATH)?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let found = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    if let Some(program) = found.into_iter().find(|program| program.is_file()) {
        return Some(program.display().to_string());
    }
    writeln!(std::io::stderr(), "skipped: none of {} is on the PATH", names.join(", ")).ok()?;
    None
}
