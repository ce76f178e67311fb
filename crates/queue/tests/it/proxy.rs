//! A proxy between a client and a private server that loses a reply when told to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use legwork_queue::Target;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// A proxy on a port of its own; ends with the value.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    armed: Arc<AtomicBool>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    /// Starts one before the server on `socket`.
    pub(crate) async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let armed = Arc::new(AtomicBool::new(false));
        let mut accepting = JoinSet::new();
        let shared = Arc::clone(&armed);
        accepting.spawn(async move {
            let mut carrying = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = UnixStream::connect(&socket).await.unwrap();
                carrying.spawn(carry(client, server, Arc::clone(&shared)));
            }
        });
        Self { address, armed, _accepting: accepting }
    }

    /// Where clients connect to.
    pub(crate) fn target(&self) -> Target {
        Target::parse(&format!("redis://{}", self.address)).unwrap()
    }

    /// Swallows the next reply and closes its connection.
    pub(crate) fn lose_a_reply(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Whether a reply is still to be swallowed.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::SeqCst)
    }
}

/// Carries bytes both ways until one side closes or a reply is swallowed.
async fn carry(mut client: TcpStream, mut server: UnixStream, armed: Arc<AtomicBool>) {
    let (mut asked, mut replied) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read {
                Ok(length) if length > 0 => server.write_all(&asked[..length]).await.unwrap(),
                _ => return,
            },
            read = server.read(&mut replied) => match read {
                Ok(_) if armed.swap(false, Ordering::SeqCst) => return,
                Ok(length) if length > 0 => {
                    if client.write_all(&replied[..length]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}
