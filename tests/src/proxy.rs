//! A TCP proxy that injects network faults: it cuts, freezes, silences or delays connections, or drops one reply.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// Address of the proxied server.
#[derive(Debug, Clone)]
pub enum Server {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix domain socket.
    Unix(PathBuf),
}

/// The faults that are active now.
#[derive(Debug, Default)]
struct ProxyState {
    /// All connections are closed, and new ones are closed on arrival.
    cut: bool,
    /// Nothing is forwarded; connections stay open.
    frozen: bool,
    /// The next reply is dropped and its connection closed.
    drops_next_reply: bool,
    /// Added latency of each chunk, per direction.
    delay: Duration,
    /// The proxy was dropped; its threads exit.
    closed: bool,
    /// Every second new connection is silent from its start.
    silences_every_second: bool,
    /// Connections opened so far. A connection's number is the count before it.
    opened: usize,
    /// Every connection opened since the last cut.
    open: Vec<Connection>,
}

/// A proxied connection.
#[derive(Debug)]
struct Connection {
    number: usize,
    /// Its two ends, so that a cut can close them.
    ends: [Socket; 2],
    /// Nothing is forwarded on it any more, not even that one end closed.
    silent: bool,
}

impl ProxyState {
    fn is_silent(&self, number: usize) -> bool {
        self.open.iter().any(|connection| connection.number == number && connection.silent)
    }
}

#[derive(Debug, Default)]
struct SharedState {
    state: Mutex<ProxyState>,
    changed: Condvar,
}

impl SharedState {
    fn state(&self) -> MutexGuard<'_, ProxyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, how: impl FnOnce(&mut ProxyState)) {
        how(&mut self.state());
        self.changed.notify_all();
    }
}

/// A proxy on a free port. Dropping the value closes all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<SharedState>,
}

impl Proxy {
    /// Starts a proxy in front of this server.
    pub fn start(server: Server) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(SharedState::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.state().closed {
                    return;
                }
                // If the server is unreachable, dropping `client` closes its connection.
                client.and_then(|client| forward(client, &server, &accepting)).ok();
            }
        });
        Self { address, shared }
    }

    /// Address that the proxy listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Redis URL of the proxy.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Redis URL of the proxy, in front of a server with TLS.
    pub fn tls_url(&self) -> String {
        format!("rediss://{}", self.address)
    }

    /// Closes every connection and accepts none until [`Proxy::restore`].
    pub fn cut(&self) {
        self.shared.change(|state| {
            state.cut = true;
            state.open.drain(..).flat_map(|connection| connection.ends).for_each(|end| end.close());
        });
    }

    /// Forwards nothing but keeps connections open until [`Proxy::restore`].
    pub fn freeze(&self) {
        self.shared.change(|state| state.frozen = true);
    }

    /// Silences every open connection until a cut closes it, like a firewall that forgot its connections. New connections
    /// are served.
    pub fn silence_open(&self) {
        self.shared.change(|state| state.open.iter_mut().for_each(|connection| connection.silent = true));
    }

    /// Silences every second connection until a cut closes it, of the open ones and of those that are opened until
    /// [`Proxy::restore`].
    pub fn silence_half(&self) {
        self.shared.change(|state| {
            state.silences_every_second = true;
            state.open.iter_mut().step_by(2).for_each(|connection| connection.silent = true);
        });
    }

    /// Ends a cut and a freeze; new connections are not silenced any more. A delay stays, and silent connections stay
    /// silent.
    pub fn restore(&self) {
        self.shared.change(|state| {
            state.cut = false;
            state.frozen = false;
            state.silences_every_second = false;
        });
    }

    /// Delays each chunk by this time in both directions; zero ends it.
    pub fn delay(&self, delay: Duration) {
        self.shared.change(|state| state.delay = delay);
    }

    /// Drops the next reply and closes its connection.
    pub fn lose_a_reply(&self) {
        self.shared.change(|state| state.drops_next_reply = true);
    }

    /// Whether [`Proxy::lose_a_reply`] still waits for a reply to drop.
    pub fn is_armed(&self) -> bool {
        self.shared.state().drops_next_reply
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| state.closed = true);
        self.cut();
        self.restore();
        // The accepting thread blocks in `accept`; a connection wakes it up.
        TcpStream::connect(self.address).ok();
    }
}

/// One end of a proxied connection.
#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn to(server: &Server) -> io::Result<Self> {
        match server {
            Server::Tcp(address) => TcpStream::connect(address).and_then(Self::tcp),
            Server::Unix(path) => UnixStream::connect(path).map(Self::Unix),
        }
    }

    fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    fn close(&self) {
        // Fails if the peer has closed it already.
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        }
        .ok();
    }

    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(chunk),
            Self::Unix(stream) => stream.read(chunk),
        }
    }

    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(chunk),
            Self::Unix(stream) => stream.write_all(chunk),
        }
    }
}

/// Forwards bytes in both directions until one side closes. Each direction has a thread.
fn forward(client: TcpStream, server: &Server, shared: &Arc<SharedState>) -> io::Result<()> {
    let client = Socket::tcp(client)?;
    if shared.state().cut {
        client.close();
        return Ok(());
    }
    let server = Socket::to(server)?;
    let number = {
        let mut state = shared.state();
        let number = state.opened;
        state.opened += 1;
        let silent = state.silences_every_second && number.is_multiple_of(2);
        state.open.push(Connection { number, ends: [client.try_clone()?, server.try_clone()?], silent });
        number
    };
    let directions = [(client.try_clone()?, server.try_clone()?, false), (server, client, true)];
    for (from, to, is_reply) in directions {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            forward_one_way(from.try_clone(), to.try_clone(), is_reply, number, &shared).ok();
            from.close();
            to.close();
        });
    }
    Ok(())
}

fn forward_one_way(
    from: io::Result<Socket>,
    to: io::Result<Socket>,
    is_reply: bool,
    number: usize,
    shared: &SharedState,
) -> io::Result<()> {
    let (mut from, mut to) = (from?, to?);
    let mut chunk = vec![0; 65536];
    loop {
        // An error closes the connection, as its end does.
        let length = from.read(&mut chunk).unwrap_or_default();
        let mut state = shared.state();
        state = shared.changed.wait_while(state, |state| state.is_silent(number)).unwrap();
        if length == 0 {
            return Ok(());
        }
        let delay = state.delay;
        if !delay.is_zero() {
            state = shared.changed.wait_timeout_while(state, delay, |state| !state.closed).unwrap().0;
        }
        let mut state = shared.changed.wait_while(state, |state| state.frozen && !state.cut).unwrap();
        state = shared.changed.wait_while(state, |state| state.is_silent(number)).unwrap();
        if state.cut || is_reply && std::mem::take(&mut state.drops_next_reply) {
            return Ok(());
        }
        drop(state);
        to.write(&chunk[..length])?;
    }
}
