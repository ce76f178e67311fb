//! A network of hosts on this machine: network namespaces, joined by a bridge.
//!
//! Each host has an address of its own, and its packets can be dropped without a reset, which a proxy cannot do. It needs
//! Linux with user namespaces, `unshare`, `nsenter`, `ip` and `iptables`. Nothing of it is seen outside: the namespaces end
//! with the processes that hold them, and these end with the test, also if it is killed.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;

use crate::programs::until;
use crate::redis::server_program;
use crate::tools::on_path;

/// The programs that make a network.
const PROGRAMS: [&str; 4] = ["unshare", "nsenter", "ip", "iptables"];
/// The port of [`NetworkRedis`] on its host.
const REDIS_PORT: u16 = 6379;

/// The bridge. Dropping the value ends its namespaces.
#[derive(Debug)]
pub struct Network {
    bridge: Namespace,
    hosts: u8,
}

impl Network {
    /// Makes a bridge without hosts. `None` if this machine does not allow it: the test should skip, and the reason was
    /// written to standard error.
    pub fn start() -> Option<Self> {
        for program in PROGRAMS {
            on_path(&[program])?;
        }
        let bridge = Namespace::holds(Command::new("unshare").args(["--user", "--map-root-user", "--net"]));
        let network = bridge.map(|bridge| Self { bridge, hosts: 0 });
        let made = network.filter(|network| network.bridge.run("ip link add lan type bridge"));
        let Some(network) = made else {
            writeln!(std::io::stderr(), "skipped: this machine allows no network namespaces").ok()?;
            return None;
        };
        network.bridge.expect("ip link set lan up");
        Some(network)
    }

    /// Adds a host with an address of its own.
    pub fn host(&mut self) -> Host {
        self.hosts += 1;
        let port = format!("port{}", self.hosts);
        let address = Ipv4Addr::new(10, 77, 0, self.hosts);
        let namespace = Namespace::holds(self.bridge.enter("unshare").arg("--net")).unwrap();
        let id = namespace.holder.id();
        self.bridge.expect(&format!("ip link add {port} type veth peer name eth0 netns {id}"));
        self.bridge.expect(&format!("ip link set {port} master lan up"));
        for line in ["lo up", "eth0 up"] {
            namespace.expect(&format!("ip link set {line}"));
        }
        namespace.expect(&format!("ip address add {address}/24 dev eth0"));
        Host { namespace, address }
    }
}

/// A host. Dropping the value takes it off the network; programs on it run on.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    address: Ipv4Addr,
}

impl Host {
    /// The words before a command line that make it run on this host.
    pub fn entering(&self) -> Vec<String> {
        self.namespace.entering()
    }

    /// Drops all packets that this host receives, and answers none: a cut cable.
    pub fn cut_off(&self) {
        self.drop_received("");
    }

    /// Drops the packets that this host receives and this condition of `iptables` matches.
    pub fn drop_received(&self, condition: &str) {
        self.namespace.expect(&format!("iptables -A INPUT -i eth0 {condition} -j DROP"));
    }

    /// How many packets it has dropped by the rules in force.
    pub fn dropped(&self) -> u64 {
        let listed = self.namespace.command("iptables -L INPUT -n -v -x").output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        // A rule's line begins with its packets; the two lines of the table's head do not.
        listed.lines().filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum()
    }

    /// Ends what [`Host::cut_off`] and [`Host::drop_received`] began.
    pub fn receive_all(&self) {
        self.namespace.expect("iptables -F INPUT");
    }

    /// Limits what this host sends to so many kilobits a second, with a short queue.
    pub fn limit_rate(&self, kilobits: u32) {
        let limit = format!("rate {kilobits}kbit burst 16kbit latency 200ms");
        self.namespace.expect(&format!("tc qdisc add dev eth0 root tbf {limit}"));
    }
}

/// A Redis on a host of its own, which tests reach by a Unix socket. Dropping the value kills the server.
#[derive(Debug)]
pub struct NetworkRedis {
    /// The host of the server.
    pub host: Host,
    folder: TempDir,
    server: Child,
}

impl NetworkRedis {
    /// Starts the server and waits until it answers.
    pub fn start(network: &mut Network) -> Self {
        let (host, folder) = (network.host(), TempDir::new().unwrap());
        let mut command = host.namespace.enter(server_program());
        command.args(["--bind", "0.0.0.0", "--protected-mode", "no", "--port", &REDIS_PORT.to_string()]);
        command.args(["--unixsocket", "socket", "--save", "", "--appendonly", "yes"]);
        command.args(["--maxmemory-policy", "noeviction", "--dir"]).arg(folder.path());
        let server = command.current_dir(folder.path()).stdout(Stdio::null()).spawn().unwrap();
        let redis = Self { host, folder, server };
        until("the server answers", || UnixStream::connect(redis.socket()).is_ok());
        redis
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Its URL on the network.
    pub fn url(&self) -> String {
        format!("redis://{}:{REDIS_PORT}", self.host.address)
    }

    /// Drops all packets of the connections that are open now, in both directions and without a reset. New connections
    /// are served.
    pub fn silence_open_connections(&self) {
        let rules: Vec<String> =
            self.client_ports().iter().map(|port| format!("-p tcp --sport {port}")).collect();
        assert!(!rules.is_empty(), "no client is connected");
        for rule in rules {
            self.host.drop_received(&rule);
        }
    }

    /// The ports of its clients on the network.
    fn client_ports(&self) -> Vec<u16> {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.write_all(b"CLIENT LIST\r\n").unwrap();
        let mut answer = BufReader::new(stream);
        let mut length = String::new();
        answer.read_line(&mut length).unwrap();
        let mut list = vec![0; length.trim().trim_start_matches('$').parse().unwrap()];
        answer.read_exact(&mut list).unwrap();
        let list = String::from_utf8(list).unwrap();
        let addresses = list.lines().filter_map(|line| line.split_once(" addr=")?.1.split(' ').next());
        // The address of a client of the Unix socket ends with port 0.
        let ports = addresses.filter_map(|address| address.rsplit_once(':')?.1.parse().ok());
        ports.filter(|port| *port != 0).collect()
    }
}

impl Drop for NetworkRedis {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

/// A network namespace, which lasts as long as a process in it: a `cat` that ends with this process.
#[derive(Debug)]
struct Namespace {
    holder: Child,
}

impl Namespace {
    /// Starts the holder by a command that enters a new namespace; `None` if it may not.
    fn holds(command: &mut Command) -> Option<Self> {
        command.arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut holder = command.spawn().ok()?;
        // A byte that comes back shows that the namespace exists.
        let echoed = holder
            .stdin
            .as_mut()?
            .write_all(b"\n")
            .and_then(|()| holder.stdout.as_mut().map_or(Ok(0), |stdout| stdout.read(&mut [0])));
        if echoed.is_ok_and(|length| length == 1) {
            return Some(Self { holder });
        }
        holder.wait().ok();
        None
    }

    fn entering(&self) -> Vec<String> {
        let id = self.holder.id().to_string();
        ["nsenter", "--target", &id, "--user", "--preserve-credentials", "--net", "--"]
            .map(str::to_owned)
            .into()
    }

    fn enter(&self, program: &str) -> Command {
        let words = self.entering();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program);
        command
    }

    /// A command line without quotes.
    fn command(&self, line: &str) -> Command {
        let (program, arguments) = line.split_once(' ').unwrap();
        let mut command = self.enter(program);
        // Without a lock file of the machine's, which another user may own.
        command.args(arguments.split_whitespace()).env("XTABLES_LOCKFILE", "/dev/null");
        command
    }

    /// Runs a command line; whether it succeeded.
    fn run(&self, line: &str) -> bool {
        let status = self.command(line).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    fn expect(&self, line: &str) {
        assert!(self.run(line), "{line}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}
