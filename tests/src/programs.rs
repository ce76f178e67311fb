//! The two programs as processes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStderr;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use legwork_common::variables;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything of the whole system may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// How often something is looked at that cannot call.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A place where programs run: a folder with their files, and the environment that they get.
#[derive(Debug)]
pub struct StateFolder {
    folder: TempDir,
    environment: BTreeMap<String, String>,
}

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit status.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Standard output as one JSON object a line.
    pub fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Standard output; the program must have ended well.
    pub fn good(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.out
    }
}

impl StateFolder {
    /// A state on this Redis, with short leases.
    pub fn on(redis_url: &str) -> Self {
        let mut state = Self::embedded();
        state.set(variables::REDIS_URL, redis_url);
        state.set(variables::LEASE, "2s");
        let work_dir = state.path("work").display().to_string();
        state.set(variables::WORK_DIR, &work_dir);
        state
    }

    /// A state with an embedded server of its own.
    pub fn embedded() -> Self {
        let folder = TempDir::new().unwrap();
        let mut environment = BTreeMap::new();
        for name in [variables::PATH, variables::HOME] {
            environment.insert(name.to_owned(), std::env::var_os(name).unwrap().into_string().unwrap());
        }
        environment
            .insert(variables::STATE_DIR.to_owned(), folder.path().join("state").display().to_string());
        Self { folder, environment }
    }

    /// Sets a variable for the programs.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// A path within the state.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the state; its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn command(&self, program: &str) -> Command {
        self.outsider(program_path(program))
    }

    /// A program of somebody else, in this state's folder and environment.
    pub fn outsider(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.environment).current_dir(self.folder.path());
        command
    }

    /// Runs `legwork` to its end.
    pub fn legwork<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Said {
        self.legwork_told("", arguments)
    }

    /// Runs `legwork` to its end with this standard input.
    pub fn legwork_told<S: AsRef<OsStr>>(&self, input: &str, arguments: impl IntoIterator<Item = S>) -> Said {
        let mut child = self.start_legwork(arguments);
        let mut stdin = child.child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
        drop(stdin);
        child.end()
    }

    /// Starts `legwork`.
    pub fn start_legwork<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Program {
        let mut command = self.command("legwork");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Program { child: command.spawn().unwrap() }
    }

    /// Puts a program of this text onto the PATH of the state, in front of all others.
    pub fn program(&mut self, name: &str, text: &str) {
        let folder = self.path("bin");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let folder = folder.display().to_string();
        let path = self.environment[variables::PATH].clone();
        if !path.starts_with(&folder) {
            self.set(variables::PATH, &format!("{folder}:{path}"));
        }
    }

    /// Runs `legwork` on a terminal on which this is typed; all that the terminal shows.
    pub fn on_a_terminal(&self, arguments: &[&str], typed: &str) -> String {
        let program = program_path("legwork").display().to_string();
        let words = std::iter::once(program.as_str()).chain(arguments.iter().copied());
        let line: Vec<String> = words.map(|word| format!("'{word}'")).collect();
        let mut command = self.outsider("script");
        command.args(["-qec", &line.join(" "), "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Program { child: command.spawn().unwrap() };
        let mut stdin = child.child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, typed.as_bytes()).unwrap();
        let said = child.end();
        drop(stdin);
        assert_eq!(said.status, 0, "{said:?}");
        said.out
    }

    /// What the workers of this state have logged.
    pub fn worker_log(&self) -> String {
        fs::read_to_string(self.path("worker.log")).unwrap()
    }

    /// Starts a worker; returns once the fleet knows it.
    pub fn worker(&self, arguments: &[&str]) -> Program {
        let before = self.workers();
        let program = self.start_worker(arguments);
        until("the worker serves", || self.workers() > before);
        program
    }

    /// Starts a worker, and does not wait for it.
    pub fn start_worker(&self, arguments: &[&str]) -> Program {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("worker.log")).unwrap();
        let mut command = self.command("legwork-worker");
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(log));
        Program { child: command.spawn().unwrap() }
    }

    fn workers(&self) -> usize {
        self.legwork(["workers", "--json"]).objects().len()
    }

    /// Dispatches a job; its id.
    pub fn dispatch(&self, arguments: &[&str]) -> String {
        let said = self.legwork(["dispatch"].iter().chain(arguments));
        assert_eq!(said.status, 0, "{said:?}");
        said.out.trim().to_owned()
    }

    /// A job as `view --json` shows it.
    pub fn view(&self, id: &str) -> Value {
        self.legwork(["view", id, "--json"]).objects().remove(0)
    }

    /// Waits until a job has this status.
    pub fn until_status(&self, id: &str, status: &str) -> Value {
        let mut view = Value::Null;
        until(&format!("{id} is {status}"), || {
            view = self.view(id);
            view["status"] == status
        });
        view
    }

    /// Waits until a job's output holds this text.
    pub fn until_output(&self, id: &str, text: &str) {
        until(&format!("{id} says {text}"), || {
            self.view(id)["output"].as_str().unwrap_or_default().contains(text)
        });
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        // An embedded server outlives its users by design; a test's must not.
        if !self.environment.contains_key(variables::REDIS_URL) {
            self.legwork(["local", "stop"]);
        }
    }
}

/// Looks until it is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "gave up waiting until {what}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// A running program; killed with the value.
#[derive(Debug)]
pub struct Program {
    child: Child,
}

impl Program {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal to this process only.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Kills it with -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The processes that it started and that live.
    pub fn children(&self) -> Vec<u32> {
        let own = self.child.id();
        let ids =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        ids.filter(|&id| stat(id).is_some_and(|(state, parent)| parent == own && state != "Z")).collect()
    }

    /// Its standard input, output and error, to be talked with.
    pub fn streams(&mut self) -> (ChildStdin, ChildStdout, ChildStderr) {
        let child = &mut self.child;
        (child.stdin.take().unwrap(), child.stdout.take().unwrap(), child.stderr.take().unwrap())
    }

    /// Reads its standard output until this text was said; it must say so before it ends.
    pub fn until_said(&mut self, text: &str) {
        let mut said = Vec::new();
        let mut piece = [0; 65536];
        while !said.windows(text.len()).any(|window| window == text.as_bytes()) {
            // What was looked at before needs no second look, but for a beginning of the text.
            said.drain(..said.len().saturating_sub(text.len()));
            let length = std::io::Read::read(self.child.stdout.as_mut().unwrap(), &mut piece).unwrap();
            assert_ne!(length, 0, "it ended before it said {text}");
            said.extend_from_slice(&piece[..length]);
        }
    }

    /// Closes this end of its standard output.
    pub fn stop_reading(&mut self) {
        drop(self.child.stdout.take());
    }

    /// Waits until it ends by itself; its exit status.
    pub fn status(&mut self) -> i32 {
        let mut status = None;
        until("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code()).unwrap_or(-1)
    }

    /// Waits until it ends; what it said.
    pub fn end(mut self) -> Said {
        let mut out = self.child.stdout.take().unwrap();
        let mut err = self.child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || read(&mut err));
        let out = read(&mut out);
        Said { status: self.status(), out, err: errors.join().unwrap() }
    }
}

fn read(from: &mut impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.kill();
        }
    }
}

/// A built program beside this test's own executable.
pub fn program_path(name: &str) -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    let folder = executable.ancestors().nth(2).unwrap();
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not built; run `cargo build` or `make test`", path.display());
    path
}

/// Whether this process lives: a dead one that nobody has waited for does not.
pub fn lives(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| state != "Z" && state != "X")
}

/// The state and the parent of a process.
fn stat(process: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// The processes whose command line holds `text`.
pub fn processes(text: &str) -> Vec<String> {
    let commands = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    commands.filter(|line| line.contains(text)).collect()
}

/// The whole answer to a GET of `path`.
pub fn http_get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    std::io::read_to_string(stream).unwrap()
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
