//! A state folder for one test, and processes that use it. Dropping it ends all that the test started.

use std::env;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use legwork_queue::embedded::EmbeddedConfig;
use rustix::process;
use rustix::process::Pid;
use rustix::process::Signal;
use tempfile::TempDir;

/// Marks the line of a user process that the test reads.
pub(crate) const MARK: &str = "user process: ";

/// A state folder, whose server ends with the value.
#[derive(Debug)]
pub(crate) struct StateFolder {
    pub(crate) folder: TempDir,
    pub(crate) config: EmbeddedConfig,
}

impl StateFolder {
    /// An empty state folder, with the server programs of this machine.
    pub(crate) fn new() -> Self {
        Self::named("state")
    }

    /// As [`StateFolder::new`], with this name.
    pub(crate) fn named(name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let config = EmbeddedConfig {
            state_dir: folder.path().join(name),
            runtime_dir: folder.path().join("run"),
            search_path: env::split_paths(&env::var_os("PATH").unwrap()).collect(),
            extra_servers: Vec::new(),
        };
        Self { folder, config }
    }

    /// The server's process, as its file names it.
    pub(crate) fn server(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.config.state_dir.join("server.pid")).ok()?;
        let id: i32 = text.trim().parse().ok()?;
        assert!(id > 1, "server.pid names process {id}");
        Pid::from_raw(id)
    }

    /// Kills the server and waits until its lock is free.
    pub(crate) fn kill_server(&self) {
        process::kill_process(self.server().unwrap(), Signal::KILL).unwrap();
        self.await_end();
    }

    /// Whether a server holds the folder.
    pub(crate) fn is_served(&self) -> bool {
        let path = self.config.state_dir.join("server.lock");
        let Ok(lock) = OpenOptions::new().write(true).open(path) else { return false };
        File::try_lock(&lock).is_err()
    }

    fn await_end(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.is_served() {
            assert!(Instant::now() < until, "the server does not end");
            std::thread::yield_now();
        }
    }

    /// A process that joins, shares, and stays until it is let to leave.
    pub(crate) fn user(&self) -> UserProcess {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["user_process", "--exact", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let config = &self.config;
        let search_path = env::join_paths(&config.search_path).unwrap();
        let lines = [config.state_dir.as_os_str(), config.runtime_dir.as_os_str(), &search_path];
        for line in lines {
            writeln!(child.stdin.as_mut().unwrap(), "{}", line.to_str().unwrap()).unwrap();
        }
        UserProcess { child }
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(5);
        while self.is_served() && Instant::now() < until {
            self.shut_down();
        }
        // Only a server that lives holds the lock, so its file names it and not another process.
        if self.is_served()
            && let Some(server) = self.server()
        {
            process::kill_process(server, Signal::KILL).ok();
        }
    }
}

impl StateFolder {
    fn shut_down(&self) -> Option<()> {
        let record = fs::read(self.config.state_dir.join("server.json")).ok()?;
        let record: serde_json::Value = serde_json::from_slice(&record).ok()?;
        let socket = PathBuf::from(record["socket"].as_str()?);
        let mut stream = UnixStream::connect(socket).ok()?;
        stream.write_all(b"SHUTDOWN NOSAVE\r\n").ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        BufReader::new(stream).read_line(&mut String::new()).ok()?;
        Some(())
    }
}

/// A process that uses the server, killed with the value.
#[derive(Debug)]
pub(crate) struct UserProcess {
    child: Child,
}

impl UserProcess {
    /// Its report once it has joined: whether it was alone, and whether it started the server.
    pub(crate) fn joined(&mut self) -> (bool, bool) {
        let report = self.line();
        let words: Vec<bool> = report.split(' ').map(|word| word.parse().unwrap()).collect();
        (words[0], words[1])
    }

    /// Its next line. The test harness prints lines of its own, which are skipped.
    fn line(&mut self) -> String {
        let stdout = BufReader::new(self.child.stdout.as_mut().unwrap());
        // The buffer holds nothing beyond the line, because the process prints nothing more until its input ends.
        let mut lines = stdout.lines().map(Result::unwrap);
        lines.find_map(|line| line.split_once(MARK).map(|(_, text)| text.to_owned())).expect("it ended")
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets it leave. Returns its report.
    pub(crate) fn leave(mut self) -> String {
        drop(self.child.stdin.take());
        self.line()
    }
}

impl Drop for UserProcess {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
