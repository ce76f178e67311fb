//! A bad line to a server: it delays, stands still, is cut, or loses a reply.

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

/// Where the server is.
#[derive(Debug, Clone)]
pub enum Server {
    /// On a port.
    Tcp(SocketAddr),
    /// On a socket in the file system.
    Unix(PathBuf),
}

/// What the line does.
#[derive(Debug, Default)]
struct Line {
    /// Every connection was closed, and new ones are closed at once.
    cut: bool,
    /// Nothing is carried; connections stay.
    stalled: bool,
    /// The next reply is swallowed and its connection closed.
    loses_a_reply: bool,
    /// How long each piece is on its way.
    delay: Duration,
    /// The proxy is gone.
    over: bool,
    /// What a cut closes.
    open: Vec<Side>,
}

#[derive(Debug, Default)]
struct Shared {
    line: Mutex<Line>,
    changed: Condvar,
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, how: impl FnOnce(&mut Line)) {
        how(&mut self.line());
        self.changed.notify_all();
    }
}

/// A proxy before a server, on a port of its own; ends with the value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts one before this server.
    pub fn before(server: Server) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.line().over {
                    return;
                }
                // A server that is not there closes the client's connection.
                client.and_then(|client| carry(client, &server, &accepting)).ok();
            }
        });
        Self { address, shared }
    }

    /// The URL of a Redis behind it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Closes every connection and lets none come up until [`Proxy::mend`].
    pub fn cut(&self) {
        self.shared.change(|line| {
            line.cut = true;
            line.open.drain(..).for_each(|side| side.close());
        });
    }

    /// Carries nothing, keeps the connections, until [`Proxy::mend`].
    pub fn stall(&self) {
        self.shared.change(|line| line.stalled = true);
    }

    /// Carries again.
    pub fn mend(&self) {
        self.shared.change(|line| {
            line.cut = false;
            line.stalled = false;
        });
    }

    /// Delays each piece by this time on its way, there and back.
    pub fn delay(&self, delay: Duration) {
        self.shared.change(|line| line.delay = delay);
    }

    /// Swallows the next reply and closes its connection.
    pub fn lose_a_reply(&self) {
        self.shared.change(|line| line.loses_a_reply = true);
    }

    /// Whether a reply is still to be swallowed.
    pub fn is_armed(&self) -> bool {
        self.shared.line().loses_a_reply
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|line| line.over = true);
        self.cut();
        self.mend();
        // Wakes the one that accepts.
        TcpStream::connect(self.address).ok();
    }
}

/// One side of a connection.
#[derive(Debug)]
enum Side {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Side {
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

    fn again(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    fn close(&self) {
        // It may be closed already.
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        }
        .ok();
    }

    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(piece),
            Self::Unix(stream) => stream.read(piece),
        }
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(piece),
            Self::Unix(stream) => stream.write_all(piece),
        }
    }
}

/// Carries bytes both ways until one side closes, each way in a thread.
fn carry(client: TcpStream, server: &Server, shared: &Arc<Shared>) -> io::Result<()> {
    let client = Side::tcp(client)?;
    if shared.line().cut {
        client.close();
        return Ok(());
    }
    let server = Side::to(server)?;
    shared.line().open.extend([client.again()?, server.again()?]);
    let ways = [(client.again()?, server.again()?, false), (server, client, true)];
    for (from, to, is_reply) in ways {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            one_way(from.again(), to.again(), is_reply, &shared).ok();
            from.close();
            to.close();
        });
    }
    Ok(())
}

fn one_way(from: io::Result<Side>, to: io::Result<Side>, is_reply: bool, shared: &Shared) -> io::Result<()> {
    let (mut from, mut to) = (from?, to?);
    let mut piece = vec![0; 65536];
    loop {
        let length = from.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        let mut line = shared.line();
        let delay = line.delay;
        if !delay.is_zero() {
            line = shared.changed.wait_timeout_while(line, delay, |line| !line.over).unwrap().0;
        }
        let mut line = shared.changed.wait_while(line, |line| line.stalled && !line.cut).unwrap();
        if line.cut || is_reply && std::mem::take(&mut line.loses_a_reply) {
            return Ok(());
        }
        drop(line);
        to.write(&piece[..length])?;
    }
}
