//! Reports to a service manager such as systemd: ready, stopping, and signs of life for its watchdog.
//!
//! The protocol is that of `sd_notify(3)`: datagrams of `NAME=value` lines to the socket in `NOTIFY_SOCKET`.

use std::collections::BTreeMap;
use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use legwork_common::variables;
use tokio_util::sync::CancellationToken;

use crate::tasks::TaskKind;
use crate::tasks::Tasks;

/// The service manager of this program; the default is none, to which nothing is reported. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The manager that `variables`, this program's environment, names; none where it names none.
    ///
    /// # Errors
    ///
    /// The system's, when the manager's socket cannot be reached.
    pub fn find(variables: &BTreeMap<String, String>) -> io::Result<Self> {
        let Some(name) = variables.get(variables::NOTIFY_SOCKET) else { return Ok(Self::default()) };
        let address = address(name)?;
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // A full socket must not stop the program.
        socket.set_nonblocking(true)?;
        let watchdog = variables.get(variables::WATCHDOG_USEC).and_then(|usec| usec.parse().ok());
        Ok(Self { socket: Some(Arc::new(socket)), watchdog: watchdog.map(Duration::from_micros) })
    }

    /// Reports that the program serves, then that it stops once `draining` is cancelled; sends signs of life until the
    /// program closes. These show that the runtime runs tasks, not that Redis replies: a restart would not end an outage
    /// of Redis.
    pub fn ready(&self, tasks: &Tasks, draining: CancellationToken) {
        self.notify("READY=1");
        if self.socket.is_none() {
            return;
        }
        let manager = self.clone();
        tasks.spawn(TaskKind::Health, async move {
            draining.cancelled().await;
            manager.notify("STOPPING=1");
        });
        if let Some(interval) = self.watchdog {
            let manager = self.clone();
            let closing = tasks.closing();
            tasks.spawn(TaskKind::Health, async move {
                // Half the interval, as sd_watchdog_enabled(3) recommends.
                while closing.run_until_cancelled(tokio::time::sleep(interval / 2)).await.is_some() {
                    manager.notify("WATCHDOG=1");
                }
            });
        }
    }

    /// Sends one state. Failures are logged: the program can serve without a manager.
    fn notify(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(state.as_bytes())
        {
            tracing::warn!(%error, state, "could not notify the service manager");
        }
    }
}

/// A path, or on Linux `@` and an abstract name.
fn address(name: &str) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix('@') {
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(name)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn start_life_and_drain_are_reported() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let variables = BTreeMap::from([
            (variables::NOTIFY_SOCKET.to_owned(), path.display().to_string()),
            (variables::WATCHDOG_USEC.to_owned(), "40000".to_owned()),
        ]);
        let (tasks, draining) = (Tasks::new(), CancellationToken::new());
        ServiceManager::find(&variables).unwrap().ready(&tasks, draining.clone());
        assert_eq!(received(&socket), "READY=1");
        assert_eq!([received(&socket), received(&socket)], ["WATCHDOG=1", "WATCHDOG=1"]);
        draining.cancel();
        let mut states = (0..10).map(|_| received(&socket));
        assert!(states.any(|state| state == "STOPPING=1"));
        assert_eq!(tasks.close_and_wait(Duration::from_secs(5)).await, []);
    }

    #[test]
    fn abstract_sockets_are_reached_and_missing_ones_are_an_error() {
        let name = format!("legwork-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _socket = UnixDatagram::bind_addr(&address).unwrap();
        let find = |socket: String| {
            ServiceManager::find(&BTreeMap::from([(variables::NOTIFY_SOCKET.to_owned(), socket)]))
        };
        assert!(find(format!("@{name}")).unwrap().socket.is_some());
        assert!(find("/no/such/socket".to_owned()).is_err());
        assert!(ServiceManager::find(&BTreeMap::new()).unwrap().socket.is_none());
    }
}
