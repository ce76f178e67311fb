//! A Redis of a test's own.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;

use crate::proxy::Proxy;
use crate::proxy::Server;

/// A Redis on a free port of this machine, with an append-only file that is synced with every write. Ended
/// with the value.
#[derive(Debug)]
pub struct Redis {
    folder: TempDir,
    port: u16,
    password: Option<String>,
    child: Child,
}

impl Redis {
    /// Starts one; returns once it accepts connections.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// One that wants this password.
    pub fn with_password(password: &str) -> Self {
        Self::start_with(Some(password.to_owned()))
    }

    fn start_with(password: Option<String>) -> Self {
        let folder = TempDir::new().unwrap();
        let port = free_port();
        let child = spawn(&folder, port, password.as_deref());
        Self { folder, port, password, child }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// A bad line to it.
    pub fn behind_proxy(&self) -> Proxy {
        Proxy::before(Server::Tcp(self.address()))
    }

    /// Says one command, by itself and not through anybody's proxy; the first line of the answer.
    pub fn say(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    /// All keys that match a pattern, sorted.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        keys(self.address(), pattern)
    }

    /// The keys that do not end by themselves within an hour, but for what belongs to the namespace: its settings, and
    /// the streams of its queues, which must be empty.
    pub fn keys_that_stay(&self) -> Vec<String> {
        let number = |command: String| self.say(&command).trim_start_matches(':').parse::<i64>().unwrap();
        let has = |key: &str, piece: &str| key.split(':').any(|one| one == piece);
        let mut keys = self.keys("*");
        keys.retain(|key| {
            let is_empty_stream = || has(key, "ready") && number(format!("XLEN {key}")) == 0;
            !(has(key, "meta") || is_empty_stream() || (1..=3600).contains(&number(format!("TTL {key}"))))
        });
        keys
    }

    /// A number of what the server says of itself.
    pub fn info(&self, section: &str, field: &str) -> u64 {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.write_all(format!("INFO {section}\r\n").as_bytes()).unwrap();
        let mut lines = BufReader::new(stream).lines().map(|line| line.unwrap());
        let found = lines.find_map(|line| line.strip_prefix(&format!("{field}:"))?.parse().ok());
        found.unwrap()
    }

    /// The URL of a new user who may do all but hear pub/sub messages.
    pub fn deaf_url(&self) -> String {
        let rules = "on >deaf ~* &* +@all -subscribe -psubscribe -ssubscribe";
        assert_eq!(self.say(&format!("ACL SETUSER deaf {rules}")), "+OK");
        format!("redis://deaf:deaf@127.0.0.1:{}", self.port)
    }

    /// Kills it with -9 and starts it again on its data.
    pub fn crash_and_restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Kills it with -9.
    pub fn stop(&mut self) {
        self.end();
    }

    /// Starts it again on its data.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.folder, self.port, self.password.as_deref());
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}

/// All keys of the server at `address` that match a pattern, sorted.
pub fn keys(address: SocketAddr, pattern: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("KEYS {pattern}\r\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(|line| line.unwrap());
    let count: usize = lines.next().unwrap().trim_start_matches('*').parse().unwrap();
    // The length of each stands before it; no key of ours holds the end of a line.
    let mut keys: Vec<String> = lines.skip(1).step_by(2).take(count).collect();
    keys.sort();
    keys
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn spawn(folder: &TempDir, port: u16, password: Option<&str>) -> Child {
    let program = ["redis-server", "valkey-server"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok())
        .expect("redis-server or valkey-server on the PATH; `make test` installs it");
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    command
        .args(["--maxmemory-policy", "noeviction", "--port", &port.to_string(), "--dir"])
        .arg(folder.path());
    if let Some(password) = password {
        command.args(["--requirepass", password]);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.any(|line| line.unwrap().to_lowercase().contains("ready to accept connections"));
    assert!(ready, "the server ended before it was ready");
    // Keeps the pipe from filling up.
    std::thread::spawn(move || lines.for_each(drop));
    child
}
