//! Where Redis is, how to log in, and how to open a connection there.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::Client;
use redis::ConnectionAddr;
use redis::ConnectionInfo;
use redis::ErrorKind;
use redis::ProtocolVersion;
use redis::RedisError;
use redis::RedisResult;
use redis::TlsCertificates;
use redis::TlsMode;
use redis::aio::AsyncPushSender;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::sentinel::SentinelClientBuilder;
use redis::sentinel::SentinelServerType;

use crate::error::QueueError;
use crate::link::COMMAND_TIMEOUT;
use crate::link::CONNECT_TIMEOUT;
use crate::link::KEEPALIVE_IDLE;
use crate::link::KEEPALIVE_INTERVAL;
#[cfg(target_os = "linux")]
use crate::link::TCP_USER_TIMEOUT;
use crate::link::timeout_error;
use crate::link::url;
use crate::link::url::SentinelLogin;
use crate::link::url::Servers;

/// Repeats of one command inside the client of a Cluster: enough to follow a slot that moves, and few enough for the
/// timeout of a round trip.
const CLUSTER_RETRIES: u32 = 6;
/// The timeout of one Sentinel: a third of a round trip.
const SENTINEL_TIMEOUT: Duration = Duration::from_secs(1);

/// Where Redis is, and how to log in. Its `Debug` and `Display` never show the password.
#[derive(Clone)]
pub struct Target {
    servers: Arc<Servers>,
    certificates: Option<TlsCertificates>,
    replicas: Option<u32>,
}

impl Target {
    /// Reads the URL of a server (`redis://`, `rediss://`, `unix://`), of a master that Sentinels name
    /// (`redis+sentinel://host,host/master`) or of a Cluster (`redis+cluster://host:port,host:port`). The files with
    /// certificates that it names are read.
    ///
    /// # Errors
    ///
    /// [`QueueError::Address`] for a text that cannot be one, [`QueueError::Certificate`] for a file that cannot be read.
    pub fn parse(url: &str) -> Result<Self, QueueError> {
        let (mut servers, certificates) = url::parse(url)?;
        match &mut servers {
            Servers::One(info) | Servers::Sentinel { node: info, .. } => *info = settled(info.clone()),
            Servers::Cluster(nodes) => nodes.iter_mut().for_each(|node| *node = settled(node.clone())),
        }
        let target = Self { servers: Arc::new(servers), certificates, replicas: None };
        target.check()?;
        Ok(target)
    }

    /// The same, where a queue answers for stored and ended jobs only once the server's file and those of so many replicas
    /// have them; `None` for at once.
    #[must_use]
    pub fn durable(self, replicas: Option<u32>) -> Self {
        Self { replicas, ..self }
    }

    /// How many replicas confirm stored and ended jobs in addition to the server's file; `None` where nothing is waited for.
    pub fn replicas(&self) -> Option<u32> {
        self.replicas
    }

    /// Checks that a client can be made for this target. Does not connect.
    ///
    /// # Errors
    ///
    /// [`QueueError::Refused`] for a target that cannot be one, such as a file of certificates without any.
    pub(crate) fn check(&self) -> Result<(), QueueError> {
        let checked = match &*self.servers {
            Servers::One(info) | Servers::Sentinel { node: info, .. } => self.client_of(info).map(drop),
            Servers::Cluster(_) => self.cluster_client().map(drop),
        };
        checked.map_err(|error| QueueError::from_redis("connect", error))
    }

    /// Whether it is a Cluster: each command then goes to the node that has its slot.
    pub fn is_cluster(&self) -> bool {
        matches!(*self.servers, Servers::Cluster(_))
    }

    /// The one server; `None` where a connection must look for it.
    pub(super) fn single(&self) -> RedisResult<Option<ConnectionInfo>> {
        match &*self.servers {
            Servers::One(info) => Ok(Some(self.client_of(info)?.get_connection_info().clone())),
            Servers::Sentinel { .. } | Servers::Cluster(_) => Ok(None),
        }
    }

    /// A client of the one server, of the master that the Sentinels name now, or of any node of the Cluster.
    pub(super) async fn client(&self) -> RedisResult<Client> {
        match &*self.servers {
            Servers::One(info) => self.client_of(info),
            Servers::Sentinel { sentinels, master, node, login } => {
                self.master(sentinels, master, node, login).await
            }
            Servers::Cluster(nodes) => {
                let node = nodes.first().ok_or_else(no_node)?;
                self.client_of(node)
            }
        }
    }

    /// A client of a Cluster's node at this address, with the Cluster's login.
    pub(super) fn node_client(&self, host: &str, port: u16) -> RedisResult<Client> {
        let Servers::Cluster(nodes) = &*self.servers else { return Err(no_node()) };
        let node = nodes.first().ok_or_else(no_node)?;
        let addr = match node.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        self.client_of(&node.clone().set_addr(addr))
    }

    /// The nodes of a Cluster that the URL names; none for another target.
    pub(super) fn nodes(&self) -> &[ConnectionInfo] {
        match &*self.servers {
            Servers::Cluster(nodes) => nodes,
            Servers::One(_) | Servers::Sentinel { .. } => &[],
        }
    }

    pub(super) fn client_of(&self, info: &ConnectionInfo) -> RedisResult<Client> {
        match &self.certificates {
            Some(certificates) => Client::build_with_tls(info.clone(), certificates.clone()),
            None => Client::open(info.clone()),
        }
    }

    pub(super) fn cluster_client(&self) -> RedisResult<ClusterClient> {
        let mut builder = ClusterClient::builder(self.nodes().iter().cloned())
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(COMMAND_TIMEOUT)
            .retries(CLUSTER_RETRIES)
            .tcp_settings(tcp_settings());
        if let Some(certificates) = &self.certificates {
            builder = builder.certs(certificates.clone());
        }
        builder.build()
    }

    /// Asks the Sentinels, one after the other, for the master. One that does not answer costs a second, so that a
    /// second and a third are asked within a round trip.
    async fn master(
        &self,
        sentinels: &[ConnectionAddr],
        master: &str,
        node: &ConnectionInfo,
        login: &SentinelLogin,
    ) -> RedisResult<Client> {
        let mut failed = no_node();
        for sentinel in sentinels {
            let asked = self.master_by(sentinel, master, node, login);
            match tokio::time::timeout(SENTINEL_TIMEOUT, asked).await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(error)) => failed = error,
                Err(_elapsed) => failed = timeout_error(),
            }
        }
        Err(failed)
    }

    /// Asks one Sentinel for the master, and that server whether it is one.
    async fn master_by(
        &self,
        sentinel: &ConnectionAddr,
        master: &str,
        node: &ConnectionInfo,
        login: &SentinelLogin,
    ) -> RedisResult<Client> {
        let redis = node.redis_settings();
        let mut builder = SentinelClientBuilder::new([sentinel.clone()], master, SentinelServerType::Master)?
            .set_client_to_redis_db(redis.db())
            .set_client_to_redis_protocol(ProtocolVersion::RESP3)
            .set_client_to_redis_tcp_settings(tcp_settings())
            .set_client_to_sentinel_tcp_settings(tcp_settings());
        if let Some(user) = redis.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = redis.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = &login.user {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = &login.password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if matches!(node.addr(), ConnectionAddr::TcpTls { .. }) {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = &self.certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        builder.build()?.async_get_client().await
    }

    /// A connection whose pushes go to `sender`. It does not reconnect. In a Cluster every node gets what is published
    /// on any of them, so it is the first node of the URL that answers.
    ///
    /// # Errors
    ///
    /// [`RedisError`] when no connection can be made within two seconds.
    pub(crate) async fn push_connection(
        &self,
        sender: impl AsyncPushSender,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT))
            .set_push_sender(sender);
        let mut failed = no_node();
        let nodes = self.nodes();
        if nodes.is_empty() {
            let client = self.client().await?;
            return client.get_multiplexed_async_connection_with_config(&config).await;
        }
        for node in nodes {
            match self.client_of(node)?.get_multiplexed_async_connection_with_config(&config).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// A connection for one caller's blocking commands: all other commands on it would wait behind them. It has no response
/// timeout, so the caller sets one.
pub(super) async fn connect_blocking(client: &Client) -> RedisResult<MultiplexedConnection> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |addresses: Vec<String>| addresses.join(",");
        match &*self.servers {
            Servers::One(info) => write!(f, "{}", info.addr()),
            Servers::Sentinel { sentinels, master, .. } => {
                let sentinels = sentinels.iter().map(ToString::to_string).collect();
                write!(f, "{master} of the Sentinels {}", list(sentinels))
            }
            Servers::Cluster(nodes) => {
                let nodes = nodes.iter().map(|node| node.addr().to_string()).collect();
                write!(f, "the Cluster {}", list(nodes))
            }
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

fn no_node() -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, "the target is not a Cluster with nodes"))
}

/// A server's address with our settings of the protocol and of TCP.
fn settled(info: ConnectionInfo) -> ConnectionInfo {
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    info.set_redis_settings(redis).set_tcp_settings(tcp_settings())
}

/// The settings of every TCP connection, with TLS or without. Unix domain sockets ignore them.
fn tcp_settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(TCP_USER_TIMEOUT);
    settings
}
