//! The URLs of Redis: one server, a master that Sentinels name, or a Cluster.
//!
//! `redis://`, `rediss://` and `unix://` are read by the client library. Several hosts, which it does not know, are one
//! URL of the library for each: `redis+sentinel://user:password@h1:26379,h2:26379/mymaster/0` and
//! `redis+cluster://h1:7000,h2:7000`, and the same with `rediss` for TLS. Files with certificates are parameters:
//! `?ca=FILE&cert=FILE&key=FILE`; the login of the Sentinels themselves too: `?sentinel_user=…&sentinel_password=…`.

use std::fs;

use percent_encoding::percent_decode_str;
use redis::ClientTlsConfig;
use redis::ConnectionAddr;
use redis::ConnectionInfo;
use redis::IntoConnectionInfo;
use redis::TlsCertificates;

use crate::error::QueueError;

/// The port of a Sentinel whose URL names none.
const SENTINEL_PORT: u16 = 26379;

/// What a URL names.
#[derive(Debug, Clone)]
pub(super) enum Servers {
    /// One server.
    One(ConnectionInfo),
    /// The master of this name. `node` has the login of the servers, and the address of no server.
    Sentinel {
        /// The Sentinels, in the order in which they are asked.
        sentinels: Vec<ConnectionAddr>,
        /// The name that the Sentinels know the master by.
        master: String,
        /// The login and the database of the master.
        node: ConnectionInfo,
        /// The login of the Sentinels, if they have one.
        login: SentinelLogin,
    },
    /// The nodes of a Cluster that are asked for the others.
    Cluster(Vec<ConnectionInfo>),
}

/// How to log in to Sentinels.
#[derive(Clone, Default)]
pub(super) struct SentinelLogin {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl std::fmt::Debug for SentinelLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SentinelLogin").finish_non_exhaustive()
    }
}

/// A URL cut into its parts. None of them is decoded yet.
struct Parts<'a> {
    scheme: &'a str,
    /// What stands before the hosts, with its `@`; empty without a login.
    login: &'a str,
    hosts: &'a str,
    /// Without its first slash.
    path: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

/// Files that a URL names, and the rest of its parameters.
#[derive(Default)]
struct Parameters {
    ca: Option<String>,
    cert: Option<String>,
    key: Option<String>,
    sentinel: SentinelLogin,
    /// For the client library.
    others: String,
}

/// Reads a URL, and the files of certificates that it names.
///
/// # Errors
///
/// [`QueueError::Address`] for a text that cannot be one, [`QueueError::Certificate`] for a file that cannot be read.
pub(super) fn parse(url: &str) -> Result<(Servers, Option<TlsCertificates>), QueueError> {
    let wrong = || QueueError::Address { text: without_credentials(url) };
    let parts = cut(url).ok_or_else(wrong)?;
    let parameters = Parameters::of(&parts).ok_or_else(wrong)?;
    let certificates = parameters.certificates()?;
    let (kind, secure) = match parts.scheme {
        "redis+sentinel" => ("sentinel", false),
        "rediss+sentinel" => ("sentinel", true),
        "redis+cluster" => ("cluster", false),
        "rediss+cluster" => ("cluster", true),
        _ => ("one", parts.scheme == "rediss"),
    };
    // A certificate for a connection without TLS would be left unused without a word.
    if certificates.is_some() && !secure {
        return Err(wrong());
    }
    let scheme = if secure { "rediss" } else { "redis" };
    let info = |host: &str, database: &str| {
        format!("{scheme}://{}{host}/{database}{}", parts.login, parameters.others)
            .into_connection_info()
            .map_err(|_| wrong())
    };
    let servers = match kind {
        "sentinel" => sentinel(&parts, parameters.sentinel.clone(), info).ok_or_else(wrong)??,
        "cluster" => {
            let nodes = hosts(parts.hosts).map(|host| info(host, "")).collect::<Result<Vec<_>, _>>()?;
            Servers::Cluster(Some(nodes).filter(|nodes| !nodes.is_empty()).ok_or_else(wrong)?)
        }
        _ => Servers::One(parts.without_files(&parameters).into_connection_info().map_err(|_| wrong())?),
    };
    Ok((servers, certificates))
}

/// The Sentinels of a URL; `None` where it names no master.
fn sentinel(
    parts: &Parts<'_>,
    login: SentinelLogin,
    info: impl Fn(&str, &str) -> Result<ConnectionInfo, QueueError>,
) -> Option<Result<Servers, QueueError>> {
    let (master, database) = parts.path.split_once('/').unwrap_or((parts.path, ""));
    if master.is_empty() {
        return None;
    }
    let sentinels: Result<Vec<ConnectionAddr>, QueueError> = hosts(parts.hosts)
        .map(|host| {
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let host = if has_port { host.to_owned() } else { format!("{host}:{SENTINEL_PORT}") };
            Ok(info(&host, "")?.addr().clone())
        })
        .collect();
    let servers = sentinels.and_then(|sentinels| {
        let first = hosts(parts.hosts).next().unwrap_or_default();
        Ok(Servers::Sentinel { sentinels, master: master.to_owned(), node: info(first, database)?, login })
    });
    Some(servers)
}

fn hosts(hosts: &str) -> impl Iterator<Item = &str> {
    hosts.split(',').map(str::trim).filter(|host| !host.is_empty())
}

fn cut(url: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // A password may hold a slash that was not encoded; a host never holds an `@`.
    let split = rest.rfind('@').map_or(0, |at| at + 1);
    let (login, place) = rest.split_at(split);
    let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
    let parameters = query.split('&').filter(|pair| !pair.is_empty());
    let parameters = parameters.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    Some(Parts { scheme, login, hosts, path, parameters })
}

impl Parts<'_> {
    /// The URL for the client library: without what only this module reads.
    fn without_files(&self, parameters: &Parameters) -> String {
        let slash = if self.path.is_empty() { "" } else { "/" };
        format!("{}://{}{}{slash}{}{}", self.scheme, self.login, self.hosts, self.path, parameters.others)
    }
}

impl Parameters {
    /// `None` for a certificate without its key, or a key without its certificate.
    fn of(parts: &Parts<'_>) -> Option<Self> {
        let mut found = Self::default();
        for (name, value) in &parts.parameters {
            let text = Some(percent_decode_str(value).decode_utf8_lossy().into_owned());
            match *name {
                "ca" => found.ca = text,
                "cert" => found.cert = text,
                "key" => found.key = text,
                "sentinel_user" => found.sentinel.user = text,
                "sentinel_password" => found.sentinel.password = text,
                _ => {
                    let mark = if found.others.is_empty() { '?' } else { '&' };
                    found.others = format!("{}{mark}{name}={value}", found.others);
                }
            }
        }
        (found.cert.is_some() == found.key.is_some()).then_some(found)
    }

    fn certificates(&self) -> Result<Option<TlsCertificates>, QueueError> {
        let read = |path: &Option<String>| {
            path.as_ref()
                .map(|path| {
                    fs::read(path).map_err(|source| QueueError::Certificate { path: path.clone(), source })
                })
                .transpose()
        };
        let (root_cert, cert, key) = (read(&self.ca)?, read(&self.cert)?, read(&self.key)?);
        let client_tls =
            cert.zip(key).map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        let any = root_cert.is_some() || client_tls.is_some();
        Ok(any.then_some(TlsCertificates { client_tls, root_cert }))
    }
}

/// An address for messages: what stands before its `@` may be a password.
fn without_credentials(url: &str) -> String {
    let url = url.split_once("sentinel_password=").map_or(url, |(before, _)| before);
    let Some((before, host)) = url.rsplit_once('@') else { return url.to_owned() };
    let scheme = before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
    format!("{scheme}…@{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        match parse(url) {
            Ok((Servers::One(info), _)) => format!("one {}", info.addr()),
            Ok((Servers::Sentinel { sentinels, master, node, login }, _)) => {
                let sentinels: Vec<String> = sentinels.iter().map(ToString::to_string).collect();
                let redis = node.redis_settings();
                let (user, password) = (redis.username(), redis.password());
                let own = (login.user, login.password);
                format!("{} {master} {user:?} {password:?} {} {own:?}", sentinels.join(" "), redis.db())
            }
            Ok((Servers::Cluster(nodes), _)) => {
                let node =
                    |info: &ConnectionInfo| format!("{} {:?}", info.addr(), info.redis_settings().password());
                nodes.iter().map(node).collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn reads_every_form() {
        for (url, expected) in [
            ("redis://h:1", "one h:1"),
            ("redis://u:p@h/2", "one h:6379"),
            ("rediss://h:1", "one h:1"),
            ("unix:///a/b?pass=x", "one /a/b"),
            ("redis+sentinel://a,b:7/mine", "a:26379 b:7 mine None None 0 (None, None)"),
            (
                "redis+sentinel://u:p%40@a:1,b:2/mine/3?sentinel_user=s&sentinel_password=t%21",
                "a:1 b:2 mine Some(\"u\") Some(\"p@\") 3 (Some(\"s\"), Some(\"t!\"))",
            ),
            ("redis+cluster://:p@a:1,b:2", "a:1 Some(\"p\"), b:2 Some(\"p\")"),
            ("rediss+cluster://a:1", "a:1 None"),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
    }

    #[test]
    fn a_wrong_address_is_shown_without_its_password() {
        for url in [
            "redis+sentinel://u:secret@a:1",
            "redis+sentinel://a:1/?sentinel_password=secret",
            "redis+cluster://u:secret@",
            "redis+cluster://u:secret@a:notaport",
            "redis://u:secret@h:1?cert=/x",
            "http://u:secret@h",
        ] {
            let text = shown(url);
            assert!(
                text.ends_with("is not the address of a Redis") && !text.contains("secret"),
                "{url}: {text}"
            );
        }
        let text = shown("rediss://u:secret@h:1?ca=/no/such/file");
        assert!(text.contains("/no/such/file") && !text.contains("secret"), "{text}");
    }
}
