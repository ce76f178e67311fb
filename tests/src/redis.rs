//! A private Redis server for one test.

use std::collections::BTreeSet;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use tempfile::TempDir;

use crate::proxy::Proxy;
use crate::proxy::Server;

/// A Lua script that moves all times which Legwork's steps compare with the clock an hour ahead. That is the same as a clock
/// that steps back by an hour.
pub const STEP_BACK_AN_HOUR: &str = include_str!("step_back_an_hour.lua");

/// A Redis on a free port, with an append-only file that is synced with every write. Dropping the value kills the server.
#[derive(Debug)]
pub struct Redis {
    folder: TempDir,
    port: u16,
    options: Options,
    child: Child,
}

/// What a server asks of its clients.
#[derive(Debug, Default)]
struct Options {
    /// A password to log in with.
    password: Option<String>,
    /// TLS, with a certificate of the server's own.
    tls: bool,
    /// A certificate of each client that this server trusts.
    client_certificates: bool,
    /// Further settings, as on the command line.
    settings: Vec<String>,
    /// The program, where it is not the first on the `PATH`.
    program: Option<String>,
    /// The port, where it was chosen before.
    port: Option<u16>,
}

impl Redis {
    /// Starts a server and waits until it accepts connections.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts this program with further settings on a port of [`free_port`], which something in front of it knows already.
    pub fn on_port(port: u16, program: &str, settings: Vec<String>) -> Self {
        let program = Some(program.to_owned());
        Self::start_with(Options { settings, program, port: Some(port), ..Options::default() })
    }

    /// Sends the server a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Starts a server that requires this password.
    pub fn with_password(password: &str) -> Self {
        Self::start_with(Options { password: Some(password.to_owned()), ..Options::default() })
    }

    /// Starts a server that speaks TLS only. Clients must trust its [`Redis::certificate`]; the methods that read from it
    /// directly cannot be used.
    pub fn with_tls() -> Self {
        Self::start_with(Options { tls: true, ..Options::default() })
    }

    /// Starts a server that speaks TLS only, and wants a certificate that it trusts of each client: its own, as in
    /// [`Redis::url_with_certificates`].
    pub fn with_client_certificates() -> Self {
        Self::start_with(Options { tls: true, client_certificates: true, ..Options::default() })
    }

    /// Starts a server with further settings, as on its command line.
    pub fn with_settings(settings: &[&str]) -> Self {
        let settings = settings.iter().map(|word| (*word).to_owned()).collect();
        Self::start_with(Options { settings, ..Options::default() })
    }

    fn start_with(options: Options) -> Self {
        let folder = TempDir::new().unwrap();
        if options.tls {
            write_certificate(&folder);
        }
        let port = options.port.unwrap_or_else(free_port);
        let child = spawn(&folder, port, &options);
        Self { folder, port, options, child }
    }

    /// The file with the certificate of a server with TLS.
    pub fn certificate(&self) -> String {
        self.folder.path().join(CERTIFICATE).display().to_string()
    }

    /// URL of a server with TLS that names the certificate to trust, and the client's own certificate and key.
    pub fn url_with_certificates(&self) -> String {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let (certificate, key) = (path(CERTIFICATE), path(PRIVATE_KEY));
        format!("rediss://127.0.0.1:{}?ca={certificate}&cert={certificate}&key={key}", self.port)
    }

    /// URL of the server, with the password if there is one.
    pub fn url(&self) -> String {
        match &self.options.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// Address the server listens on.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Starts a fault-injecting proxy in front of the server.
    pub fn behind_proxy(&self) -> Proxy {
        Proxy::start(Server::Tcp(self.address()))
    }

    /// Sends one inline command on a new direct connection, not through a proxy. Returns the first line of the reply,
    /// with its type prefix (`+OK`, `:0`).
    pub fn command(&self, command: &str) -> String {
        first_line(self.address(), command)
    }

    /// Sends one inline command as [`Redis::command`] does, and returns the text of its reply: a bulk string, in lines.
    pub fn text(&self, command: &str) -> String {
        text(self.address(), command)
    }

    /// Sends one inline command as [`Redis::command`] does, and returns the elements of its reply: bulk strings without
    /// line breaks.
    pub fn array(&self, command: &str) -> Vec<String> {
        array(self.address(), command)
    }

    /// Makes the server's clock step back by an hour, as far as Legwork can tell.
    pub fn step_clock_back(&self) {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        let words = ["EVAL", STEP_BACK_AN_HOUR, "0"];
        let parts: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        stream.write_all(format!("*{}\r\n{parts}", words.len()).as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        assert!(!answer.starts_with('-'), "{answer}");
    }

    /// All keys that match a pattern, sorted. Uses `KEYS`, which is fine for the few keys of a test.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        keys(self.address(), pattern)
    }

    /// Keys that do not expire within an hour, without empty streams, and without the empty records of ids that were made
    /// void, which stay for a day.
    pub fn persistent_keys(&self) -> Vec<String> {
        let mut keys = self.keys("*");
        keys.retain(|key| {
            let ttl: i64 = self.command(&format!("TTL {key}")).trim_start_matches(':').parse().unwrap();
            let is_empty = |length: &str| self.command(&format!("{length} {key}")) == ":0";
            let is_void = || key.rsplit(':').nth(1) == Some("spec") && ttl > 0 && is_empty("STRLEN");
            (ttl == -1 || ttl > 3600) && !is_empty("XLEN") && !is_void()
        });
        keys
    }

    /// Every command that changed data, as the server's append-only file has it.
    pub fn written(&self) -> String {
        let files = fs::read_dir(self.folder.path().join("appendonlydir")).unwrap();
        files
            .map(|file| String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap()).into_owned())
            .collect()
    }

    /// A numeric field of `INFO section`.
    pub fn info(&self, section: &str, field: &str) -> u64 {
        self.info_line(section, field).and_then(|value| value.parse().ok()).unwrap()
    }

    /// How often a command was called, also in scripts.
    pub fn calls(&self, command: &str) -> u64 {
        let calls = |line: String| line.strip_prefix("calls=")?.split(',').next()?.parse().ok();
        self.info_line("commandstats", &format!("cmdstat_{command}")).and_then(calls).unwrap_or(0)
    }

    fn info_line(&self, section: &str, field: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.write_all(format!("INFO {section}\r\n").as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = String::new();
        reader.read_line(&mut length).unwrap();
        let mut text = vec![0; length.trim().strip_prefix('$').unwrap().parse().unwrap()];
        reader.read_exact(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        text.lines().find_map(|line| Some(line.strip_prefix(&format!("{field}:"))?.to_owned()))
    }

    /// URL with a new user that cannot subscribe to pub/sub channels: a worker that uses it gets no notifications.
    pub fn url_without_pubsub(&self) -> String {
        let rules = "on >deaf ~* &* +@all -subscribe -psubscribe -ssubscribe";
        assert_eq!(self.command(&format!("ACL SETUSER deaf {rules}")), "+OK");
        format!("redis://deaf:deaf@127.0.0.1:{}", self.port)
    }

    /// Kills the server with SIGKILL and starts it again with its data.
    pub fn crash_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the killed server again on the same port, with its data.
    pub fn restart(&mut self) {
        self.child = spawn(&self.folder, self.port, &self.options);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends one inline command to the server at `address`, and returns the first line of the reply, with its type prefix.
pub fn first_line(address: SocketAddr, command: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer.trim_end().to_owned()
}

/// Sends one inline command to the server at `address`, and returns the bulk string that it replies.
pub fn text(address: SocketAddr, command: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut answer = BufReader::new(stream);
    let mut length = String::new();
    answer.read_line(&mut length).unwrap();
    let length: usize = length.trim().trim_start_matches('$').parse().unwrap();
    let mut bytes = vec![0; length];
    answer.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// All keys of the server at `address` that match a pattern, sorted, read over a direct connection.
pub fn keys(address: SocketAddr, pattern: &str) -> Vec<String> {
    // No key of Legwork contains a line break.
    let mut keys = array(address, &format!("KEYS {pattern}"));
    keys.sort();
    keys
}

/// Sends one inline command to the server at `address`, and returns the elements of its reply: bulk strings without line
/// breaks.
pub fn array(address: SocketAddr, command: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(|line| line.unwrap());
    let count: usize = lines.next().unwrap().trim_start_matches('*').parse().unwrap();
    // Each element is preceded by a line with its length.
    lines.skip(1).step_by(2).take(count).collect()
}

/// A free port, which this process gets once: tests run side by side, and nodes of two Clusters must not meet. Another
/// process could take it before the caller binds it; the tests accept that.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        if GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// The files of a server with TLS, in its folder.
const CERTIFICATE: &str = "certificate.pem";
const PRIVATE_KEY: &str = "key.pem";

/// Makes a certificate for this machine's own address, signed by itself.
fn write_certificate(folder: &TempDir) {
    let made = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()]).unwrap();
    fs::write(folder.path().join(CERTIFICATE), made.cert.pem()).unwrap();
    fs::write(folder.path().join(PRIVATE_KEY), made.signing_key.serialize_pem()).unwrap();
}

/// The server's program.
pub(crate) fn server_program() -> &'static str {
    ["redis-server", "valkey-server"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok())
        .expect("redis-server or valkey-server must be on the PATH; `make test` installs one")
}

fn spawn(folder: &TempDir, port: u16, options: &Options) -> Child {
    let mut command = Command::new(options.program.as_deref().unwrap_or(server_program()));
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    command.args(["--maxmemory-policy", "noeviction", "--dir"]).arg(folder.path());
    if options.tls {
        let wanted = if options.client_certificates { "yes" } else { "no" };
        command.args(["--port", "0", "--tls-port", &port.to_string(), "--tls-auth-clients", wanted]);
        command.args(["--tls-ca-cert-file", CERTIFICATE]);
        command
            .args(["--tls-cert-file", CERTIFICATE, "--tls-key-file", PRIVATE_KEY])
            .current_dir(folder.path());
    } else {
        command.args(["--port", &port.to_string()]);
    }
    if let Some(password) = &options.password {
        command.args(["--requirepass", password]);
    }
    command.args(&options.settings);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.any(|line| line.unwrap().to_lowercase().contains("ready to accept connections"));
    assert!(ready, "the server exited before it was ready");
    // Drains the log, because the server would block on a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    child
}
