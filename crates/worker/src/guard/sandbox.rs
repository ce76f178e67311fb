//! Confinement of commands by Landlock: the folder of their job, and what a system has for everyone to read.
//!
//! Entered between the announcement to the guard and the `exec`, so that the command and all that it starts are confined,
//! and no code of theirs runs before. A confined process reaches no other file, cannot trace or signal processes outside,
//! and gains no rights by set-user-id programs. Of the network, TCP connections are confined to ports where that is asked
//! for; listening, UDP and so name resolution are not.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::str;

use landlock::ABI;
use landlock::Access as _;
use landlock::AccessFs;
use landlock::AccessNet;
use landlock::CompatLevel;
use landlock::Compatible as _;
use landlock::NetPort;
use landlock::Ruleset;
use landlock::RulesetAttr as _;
use landlock::RulesetCreated;
use landlock::RulesetCreatedAttr as _;
use landlock::RulesetError;
use landlock::Scope;
use landlock::path_beneath_rules;

/// The version that a kernel must have: Linux 6.2, which confines truncation too.
const REQUIRED: ABI = ABI::V3;
/// The version whose further confinements are used where the kernel has them: signals and abstract sockets.
const WANTED: ABI = ABI::V6;

/// What programs need to run, for reading and executing. Folders that do not exist are left out.
const SYSTEM: [&str; 12] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/proc",
    "/sys/devices/system/cpu",
    "/nix/store",
];
/// Devices that every program may write to.
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
];
/// Begins an argument that names a folder for reading.
const READ: &str = "--read=";
/// Begins an argument that names a folder for everything.
const WRITE: &str = "--write=";
/// Begins an argument that names a port to connect to.
const PORT: &str = "--port=";
/// Ends the arguments.
const END: &str = "--";

/// The folders that commands reach besides those of the system, and the ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// For everything: the folder of the job.
    pub writable: Vec<PathBuf>,
    /// For reading and executing.
    pub readable: Vec<PathBuf>,
    /// The only ports to which TCP connections are made; empty for no limit. Port 0 stands for none.
    pub ports: Vec<u16>,
}

impl Sandbox {
    /// Whether this system can confine commands in this way.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub fn check_supported(&self) -> Result<(), RulesetError> {
        self.ruleset().map(drop)
    }

    /// The arguments from which [`from_arguments`](Self::from_arguments) reads it.
    pub(super) fn arguments(&self) -> impl Iterator<Item = OsString> {
        let named = |word: &'static str| {
            move |folder: &PathBuf| {
                let mut argument = OsString::from(word);
                argument.push(folder);
                argument
            }
        };
        let ports = self.ports.iter().map(|port| format!("{PORT}{port}").into());
        self.writable.iter().map(named(WRITE)).chain(self.readable.iter().map(named(READ))).chain(ports)
    }

    /// Reads all arguments up to [`END`]; `None` where there is no sandbox.
    pub(super) fn from_arguments(arguments: &mut impl Iterator<Item = OsString>) -> io::Result<Option<Self>> {
        let mut sandbox = None::<Self>;
        for argument in arguments {
            let bytes = argument.as_bytes();
            let folder = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
            if bytes == END.as_bytes() {
                return Ok(sandbox);
            } else if let Some(path) = bytes.strip_prefix(WRITE.as_bytes()) {
                sandbox.get_or_insert_default().writable.push(folder(path));
            } else if let Some(path) = bytes.strip_prefix(READ.as_bytes()) {
                sandbox.get_or_insert_default().readable.push(folder(path));
            } else if let Some(port) = bytes.strip_prefix(PORT.as_bytes()) {
                let port = str::from_utf8(port).ok().and_then(|port| port.parse().ok());
                let Some(port) = port else { break };
                sandbox.get_or_insert_default().ports.push(port);
            } else {
                break;
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "the arguments have no end"))
    }

    /// Confines this process, for good.
    pub(super) fn enter(&self) -> Result<(), RulesetError> {
        let all = AccessFs::from_all(WANTED);
        let system = SYSTEM.iter().map(Path::new).chain(self.readable.iter().map(PathBuf::as_path));
        let ports = self.ports.iter().map(|port| NetPort::new(*port, AccessNet::ConnectTcp));
        self.ruleset()?
            .add_rules(path_beneath_rules(system, AccessFs::from_read(WANTED)))?
            .add_rules(path_beneath_rules(
                DEVICES,
                AccessFs::from_read(WANTED) | AccessFs::WriteFile | AccessFs::IoctlDev,
            ))?
            .add_rules(path_beneath_rules(&self.writable, all))?
            .add_rules(ports.map(Ok::<_, RulesetError>))?
            .restrict_self()?;
        Ok(())
    }

    /// Everything is forbidden; an error where the kernel cannot do what is required.
    fn ruleset(&self) -> Result<RulesetCreated, RulesetError> {
        let mut required = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(REQUIRED))?;
        if !self.ports.is_empty() {
            required = required.handle_access(AccessNet::ConnectTcp)?;
        }
        Ok(required
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(WANTED))?
            .scope(Scope::from_all(WANTED))?
            .create()?
            .set_compatibility(CompatLevel::BestEffort))
    }
}

/// The last argument before the command.
pub(super) fn end() -> OsString {
    END.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_they_are_written() {
        for sandbox in [
            None,
            Some(Sandbox {
                writable: vec!["/a b".into()],
                readable: vec!["/c".into(), "/d=e".into()],
                ports: vec![443, 0],
            }),
        ] {
            let mut arguments: Vec<OsString> = sandbox.iter().flat_map(Sandbox::arguments).collect();
            arguments.extend([end(), "sh".into(), END.into()]);
            let mut arguments = arguments.into_iter();
            assert_eq!(Sandbox::from_arguments(&mut arguments).unwrap(), sandbox);
            assert_eq!(arguments.next().unwrap(), "sh");
        }
        assert!(Sandbox::from_arguments(&mut ["sh".into()].into_iter()).is_err());
        assert!(Sandbox::from_arguments(&mut ["--port=x".into(), end()].into_iter()).is_err());
        assert!(Sandbox::from_arguments(&mut std::iter::empty()).is_err());
    }
}
