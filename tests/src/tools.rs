//! Programs of others that some tests speak with, where `scripts/install-mcp-tools` has installed them.

use std::env;
use std::io::Write as _;
use std::path::PathBuf;

use legwork_common::variables;

/// An installed program or folder; else says what is skipped, past whatever captures the output of tests.
pub fn installed(path: &str) -> Option<String> {
    let home = || env::var_os(variables::HOME).map(|home| PathBuf::from(home).join(".cache"));
    let cache = env::var_os(variables::XDG_CACHE_HOME).map(PathBuf::from).or_else(home)?;
    let tool = cache.join("legwork-test-tools").join(path);
    if tool.exists() {
        return Some(tool.display().to_string());
    }
    let tool = tool.display();
    writeln!(std::io::stderr(), "skipped: {tool} is not there; scripts/install-mcp-tools installs it")
        .ok()?;
    None
}
