//! The two programs as child processes, each test with its own state folder and environment.

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

use crate::network::Host;
use crate::redis::Redis;

/// Timeout of every wait in the whole-system tests. Several times longer than the slowest of them (a few leases of 10 s)
/// needs on a busy machine with two cores.
pub const TIMEOUT: Duration = Duration::from_secs(40);
/// Poll interval for conditions that have no notification, such as a job's status. Short next to the 2 s leases of the
/// tests; a poll that starts a program takes longer than this anyway.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A temporary folder with the files of the programs under test, and the environment they run in.
#[derive(Debug)]
pub struct StateFolder {
    folder: TempDir,
    environment: BTreeMap<String, String>,
    /// The words before each command line; none on this machine's own network.
    entering: Vec<String>,
}

/// Exit status and captured output of a program.
#[derive(Debug)]
pub struct ProgramOutput {
    /// Exit status; -1 if a signal ended it.
    pub status: i32,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, invalid UTF-8 replaced.
    pub stderr: String,
}

impl ProgramOutput {
    /// Parses standard output as one JSON object per line.
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns standard output; panics unless the exit status is 0.
    pub fn expect_success(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.stdout
    }
}

impl StateFolder {
    /// A new Redis, and a folder whose programs use it. Both end when they are dropped.
    pub fn with_redis() -> (Redis, Self) {
        let redis = Redis::start();
        let state = Self::on(&redis.url());
        (redis, state)
    }

    /// A folder whose programs use this Redis, with leases of 2 s so that a lost worker is noticed quickly.
    pub fn on(redis_url: &str) -> Self {
        let mut state = Self::embedded();
        state.set(variables::REDIS_URL, redis_url);
        state.set(variables::LEASE, "2s");
        let work_dir = state.path("work").display().to_string();
        state.set(variables::WORK_DIR, &work_dir);
        state
    }

    /// A folder whose programs use an embedded server, which is stopped when the value is dropped.
    pub fn embedded() -> Self {
        let folder = TempDir::new().unwrap();
        let mut environment = BTreeMap::new();
        for name in [variables::PATH, variables::HOME] {
            environment.insert(name.to_owned(), std::env::var_os(name).unwrap().into_string().unwrap());
        }
        environment
            .insert(variables::STATE_DIR.to_owned(), folder.path().join("state").display().to_string());
        Self { folder, environment, entering: Vec::new() }
    }

    /// The same, and it is the default of a user whose home it has: programs that are started by others, who hand on
    /// little more than `HOME`, use it too.
    pub fn at_home() -> Self {
        let mut state = Self::embedded();
        let home = state.path("home").display().to_string();
        state.set(variables::STATE_DIR, &format!("{home}/.local/state/legwork"));
        state.set(variables::HOME, &home);
        state
    }

    /// Sets an environment variable for programs started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// Runs programs that are started from now on at this host.
    pub fn move_to(&mut self, host: &Host) {
        self.entering = host.entering();
    }

    /// Joins `name` to the folder's path; the file need not exist.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the folder and returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// Writes an agent file whose root dispatches `worker`; both have a shell. Returns its path.
    pub fn team_with_shells(&self) -> String {
        self.file(
            "team.yaml",
            "agents:
  root: {model: scripted/any, instruction: i, sub_agents: [worker], toolsets: [{type: background_agents}, {type: shell}]}
  worker: {model: scripted/any, description: d, instruction: i, toolsets: [{type: shell}]}
",
        )
    }

    fn command(&self, program: &str) -> Command {
        self.other_program(program_path(program))
    }

    /// A program that is not part of Legwork, run in this folder and environment.
    pub fn other_program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut words = self.entering.iter().map(OsStr::new).chain([program.as_ref()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).env_clear().envs(&self.environment).current_dir(self.folder.path());
        command
    }

    /// Runs `legwork` until it exits.
    pub fn legwork<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> ProgramOutput {
        self.legwork_with_input("", arguments)
    }

    /// Runs `legwork` with this standard input until it exits.
    pub fn legwork_with_input<S: AsRef<OsStr>>(
        &self,
        input: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> ProgramOutput {
        let mut child = self.start_legwork(arguments);
        let mut stdin = child.child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output()
    }

    /// Starts `legwork` with piped standard streams.
    pub fn start_legwork<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Program {
        let mut command = self.command("legwork");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Program { child: command.spawn().unwrap() }
    }

    /// Starts `bash` with a script, piped standard streams, and the built programs on its PATH.
    pub fn start_shell(&self, script: &str) -> Program {
        let built = program_path("legwork");
        let path = format!("{}:{}", built.parent().unwrap().display(), self.environment[variables::PATH]);
        let mut command = self.other_program("bash");
        command.args(["-euo", "pipefail", "-c", script]).env(variables::PATH, path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Program { child: command.spawn().unwrap() }
    }

    /// Installs an executable script at the front of the PATH of this environment.
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

    /// Runs `legwork` in a pseudo-terminal (`script` from util-linux) with `typed` as keyboard input. Returns everything
    /// the terminal shows; panics unless the exit status is 0.
    pub fn in_terminal(&self, arguments: &[&str], typed: &str) -> String {
        let mut child = self.on_terminal("", arguments);
        let mut stdin = child.child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, typed.as_bytes()).unwrap();
        let output = child.wait_with_output();
        drop(stdin);
        assert_eq!(output.status, 0, "{output:?}");
        output.stdout
    }

    /// Starts `legwork` on a terminal of 40 lines with 200 columns, which the program's standard input and output stand for.
    pub fn start_in_terminal(&self, arguments: &[&str]) -> Program {
        self.on_terminal("stty rows 40 cols 200; ", arguments)
    }

    fn on_terminal(&self, before: &str, arguments: &[&str]) -> Program {
        let program = program_path("legwork").display().to_string();
        let words = std::iter::once(program.as_str()).chain(arguments.iter().copied());
        let line: Vec<String> = words.map(|word| format!("'{word}'")).collect();
        let line = format!("{before}{}", line.join(" "));
        let mut command = self.other_program("script");
        command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Program { child: command.spawn().unwrap() }
    }

    /// The log of all workers started from this folder.
    pub fn worker_log(&self) -> String {
        fs::read_to_string(self.path("worker.log")).unwrap()
    }

    /// Starts a worker and waits until `legwork workers` lists it.
    pub fn worker(&self, arguments: &[&str]) -> Program {
        let program = self.start_worker(arguments);
        // Not by their number: a worker that died before may be forgotten at the same moment.
        until("the worker is listed", || self.lists_worker(program.id()));
        program
    }

    /// Starts a worker without waiting for it to connect.
    pub fn start_worker(&self, arguments: &[&str]) -> Program {
        self.start_worker_program(&program_path("legwork-worker"), arguments)
    }

    /// Starts this program as a worker, for example that of another release, without waiting for it to connect.
    pub fn start_worker_program(&self, program: &Path, arguments: &[&str]) -> Program {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("worker.log")).unwrap();
        let mut command = self.other_program(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(log));
        Program { child: command.spawn().unwrap() }
    }

    fn lists_worker(&self, id: u32) -> bool {
        self.legwork(["workers", "--json"]).json_lines().iter().any(|worker| worker["pid"] == id)
    }

    /// Dispatches a job and returns its id; for a batch, one id per line.
    pub fn dispatch(&self, arguments: &[&str]) -> String {
        let output = self.legwork(["dispatch"].iter().chain(arguments));
        assert_eq!(output.status, 0, "{output:?}");
        output.stdout.trim().to_owned()
    }

    /// The job as `view --json` prints it.
    pub fn view(&self, id: &str) -> Value {
        self.legwork(["view", id, "--json"]).json_lines().remove(0)
    }

    /// Waits until a job has this status and returns its view.
    pub fn until_status(&self, id: &str, status: &str) -> Value {
        let mut view = Value::Null;
        until(&format!("{id} is {status}"), || {
            view = self.view(id);
            view["status"] == status
        });
        view
    }

    /// Waits until a job's output contains this text.
    pub fn until_output(&self, id: &str, text: &str) {
        until(&format!("the output of {id} contains {text}"), || {
            self.view(id)["output"].as_str().unwrap_or_default().contains(text)
        });
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        // An embedded server stays up after its last user exits, by design. A test must not leave one behind.
        if !self.environment.contains_key(variables::REDIS_URL) {
            self.legwork(["local", "stop"]);
        }
    }
}

/// Polls until `condition` holds; panics after [`TIMEOUT`] with `what` in the message.
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(TIMEOUT, what, condition);
}

/// Waits until the condition holds, for at most `limit`: for what takes longer than [`TIMEOUT`], such as the next minute.
pub fn until_within(limit: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(is_reached(limit, condition), "timed out waiting until {what}");
}

/// Polls until the condition holds, for at most `limit`; whether it did.
pub fn is_reached(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() >= limit {
            return false;
        }
        std::thread::park_timeout(POLL_INTERVAL);
    }
    true
}

/// A running program. Dropping the value kills it.
#[derive(Debug)]
pub struct Program {
    child: Child,
}

impl Program {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to this process only, not to its process group.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Kills it with SIGKILL and reaps it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether the process has not exited yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Process ids of its direct children, without zombies.
    pub fn children(&self) -> Vec<u32> {
        let own = self.child.id();
        let ids =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        ids.filter(|&id| stat(id).is_some_and(|(state, parent)| parent == own && state != "Z")).collect()
    }

    /// Takes standard input, output and error, for a test that speaks a protocol with the program.
    pub fn take_streams(&mut self) -> (ChildStdin, ChildStdout, ChildStderr) {
        let child = &mut self.child;
        (child.stdin.take().unwrap(), child.stdout.take().unwrap(), child.stderr.take().unwrap())
    }

    /// Writes to standard input.
    pub fn type_text(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        std::io::Write::write_all(stdin, text.as_bytes()).unwrap();
        std::io::Write::flush(stdin).unwrap();
    }

    /// Reads standard output until it contains this text; panics if the program exits first.
    pub fn until_printed(&mut self, text: &str) {
        let mut printed = Vec::new();
        let mut chunk = [0; 65536];
        while !printed.windows(text.len()).any(|window| window == text.as_bytes()) {
            // Only the last bytes can be the start of the text, so everything before them is dropped.
            printed.drain(..printed.len().saturating_sub(text.len()));
            let length = std::io::Read::read(self.child.stdout.as_mut().unwrap(), &mut chunk).unwrap();
            assert_ne!(length, 0, "the program exited before it printed {text}");
            printed.extend_from_slice(&chunk[..length]);
        }
    }

    /// Reads standard error until it contains this text, and returns what was read; panics if the program exits first.
    pub fn until_noted(&mut self, text: &str) -> String {
        let mut noted = Vec::new();
        let mut chunk = [0; 4096];
        while !String::from_utf8_lossy(&noted).contains(text) {
            let length = std::io::Read::read(self.child.stderr.as_mut().unwrap(), &mut chunk).unwrap();
            let so_far = String::from_utf8_lossy(&noted).into_owned();
            assert_ne!(length, 0, "the program exited before it noted {text}: {so_far}");
            noted.extend_from_slice(&chunk[..length]);
        }
        String::from_utf8_lossy(&noted).into_owned()
    }

    /// Reads standard error until a line contains this text, and returns that line; panics if the program exits first.
    /// What comes after the line is left for the next reader.
    pub fn until_line_noted(&mut self, text: &str) -> String {
        let stderr = self.child.stderr.as_mut().unwrap();
        let (mut noted, mut line) = (String::new(), Vec::new());
        loop {
            let mut byte = [0];
            let length = std::io::Read::read(stderr, &mut byte).unwrap();
            assert_ne!(length, 0, "the program exited before it noted {text}: {noted}");
            line.extend_from_slice(&byte);
            if byte != *b"\n" {
                continue;
            }
            let read = String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned();
            if read.contains(text) {
                return read.trim_end().to_owned();
            }
            noted.push_str(&read);
        }
    }

    /// Closes the reading end of its standard output: its next write fails.
    pub fn stop_reading(&mut self) {
        drop(self.child.stdout.take());
    }

    /// Waits for the program to exit and returns its exit status; -1 if a signal ended it.
    pub fn wait(&mut self) -> i32 {
        let mut status = None;
        until("the program exits", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code()).unwrap_or(-1)
    }

    /// Waits for the program to exit while reading both streams, so that it never blocks on a full pipe.
    pub fn wait_with_output(mut self) -> ProgramOutput {
        let mut stdout = self.child.stdout.take().unwrap();
        let mut stderr = self.child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || read(&mut stderr));
        let stdout = read(&mut stdout);
        ProgramOutput { status: self.wait(), stdout, stderr: stderr.join().unwrap() }
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

/// Path of a built program, two folders above this test's own executable.
pub fn program_path(name: &str) -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    let folder = executable.ancestors().nth(2).unwrap();
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not built; run `cargo build` or `make test`", path.display());
    path
}

/// Whether this process is alive. A zombie, which has exited and was not reaped, is not.
pub fn is_alive(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| state != "Z" && state != "X")
}

/// State letter and parent of a process, from `/proc`.
fn stat(process: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The process name before the last `)` can contain spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// Command lines of all processes on this machine that contain `text`.
pub fn processes(text: &str) -> Vec<String> {
    let commands = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    commands.filter(|line| line.contains(text)).collect()
}

/// Process ids of all processes on this machine whose command line contains all these texts.
pub fn process_ids(texts: &[&str]) -> Vec<u32> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let id = entry.file_name().to_str()?.parse().ok()?;
        texts.iter().all(|text| line.contains(text)).then_some(id)
    });
    ids.collect()
}

/// Kills one process with SIGKILL.
pub fn kill(process: u32) {
    kill_process(Pid::from_raw(process.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// Sends `GET path` and returns the whole response, headers included.
pub fn http_get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    std::io::read_to_string(stream).unwrap()
}

/// Root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
