//! Keeps requests away from addresses that are not public, such as those of the worker's own network.
//!
//! Redirects and host names can lead anywhere, so every redirect is checked, and every address that a name resolves to.

use std::error::Error;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;

use legwork_common::variables;
use reqwest::Client;
use reqwest::Url;
use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;
use reqwest::redirect::Policy;
use thiserror::Error;

use super::domains::Domains;
use crate::toolset::http;

/// Whether an address may be connected to.
pub(super) type AddressFilter = fn(IpAddr) -> bool;

/// Where requests may go.
#[derive(Debug, Clone)]
pub(super) struct Destinations {
    pub(super) filter: AddressFilter,
    pub(super) domains: Domains,
}

/// An address of a name that `blocked_domains` has.
#[derive(Debug, Error)]
#[error("{host} is in blocked_domains of this toolset")]
struct Blocked {
    host: String,
}

/// An address that the filter refuses. Its text is the same for addresses, names and redirects.
#[derive(Debug, Error)]
#[error("{host} is not a public address (the operator may allow it with {})", variables::FETCH_PRIVATE)]
struct NotPublic {
    host: String,
}

/// A client that connects to allowed addresses only. With `within_site`, a redirect to another site is the response.
///
/// It uses no proxy, because a proxy resolves names itself and the filter would not see their addresses.
///
/// # Errors
///
/// Why reqwest cannot build a client: no TLS backend, no system configuration.
pub(super) fn client(to: &Arc<Destinations>, within_site: bool) -> Result<Client, reqwest::Error> {
    let allowed = Arc::clone(to);
    let redirects = Policy::custom(move |attempt| {
        if attempt.previous().len() > http::MAX_REDIRECTS {
            return attempt.error("too many redirects");
        }
        let first = attempt.previous().first();
        if within_site && !first.is_some_and(|first| http::is_same_site(first, attempt.url())) {
            return attempt.stop();
        }
        match check(attempt.url(), &allowed) {
            Ok(()) => attempt.follow(),
            Err(refused) => attempt.error(refused),
        }
    });
    Client::builder()
        .user_agent(http::USER_AGENT)
        .redirect(redirects)
        .dns_resolver(Arc::new(FilteringResolver { to: Arc::clone(to) }))
        .no_proxy()
        .build()
}

/// Checks the scheme of a URL and its host, if that is an address. A name is checked when the client resolves it.
///
/// # Errors
///
/// The text for the model.
pub(super) fn check(url: &Url, to: &Destinations) -> Result<(), String> {
    if !http::is_http(url) {
        return Err("only http and https URLs are supported".to_owned());
    }
    let Some(host) = url.host_str() else { return Err("the URL has no host".to_owned()) };
    to.domains.check(url)?;
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) if !(to.filter)(ip) => Err(NotPublic { host: host.to_owned() }.to_string()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The innermost cause of an error. The outer ones repeat the URL, which the result names anyway.
pub(super) fn reason(error: &reqwest::Error) -> String {
    let mut inner: &dyn Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// The system's resolver, without the addresses that the filter refuses.
#[derive(Debug)]
struct FilteringResolver {
    to: Arc<Destinations>,
}

impl Resolve for FilteringResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let to = Arc::clone(&self.to);
        Box::pin(async move {
            let host = || name.as_str().to_owned();
            let resolved = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let mut allowed: Vec<SocketAddr> = resolved.filter(|address| (to.filter)(address.ip())).collect();
            if allowed.is_empty() {
                return Err(NotPublic { host: host() }.into());
            }
            allowed.retain(|address| !to.domains.blocks(address.ip()));
            if allowed.is_empty() {
                return Err(Blocked { host: host() }.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Allows every address.
pub(super) fn any(_ip: IpAddr) -> bool {
    true
}

/// Allows addresses of the public internet: all but those that a registry reserves for other uses.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        // The remaining special ranges of RFC 6890: this network, carrier-grade NAT, protocol assignments, benchmarks,
        // reserved.
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240;
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Unspecified, loopback, and the forms that embed an IPv4 address.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            ip.to_ipv4().is_some_and(|_| high != 0 || low > 1) && v4(high, low)
        }
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        // Local-use translation, documentation and Teredo; then unique local, link local, site local and multicast.
        [0x64, 0xff9b, 1, ..] | [0x2001, 0xdb8 | 0, ..] => false,
        [first, ..] => first & 0xfe00 != 0xfc00 && first & 0xff80 != 0xfe80 && first < 0xff00,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        let table = [
            ("93.184.216.34", true),
            ("8.8.8.8", true),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("172.32.0.1", true),
            ("192.168.0.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700::1111", true),
            ("::", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("::127.0.0.1", false),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b:1::1", false),
            ("2002:7f00:1::", false),
            ("2001::1", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ];
        for (ip, expected) in table {
            assert_eq!(is_public(ip.parse().unwrap()), expected, "{ip}");
        }
    }

    fn to(filter: AddressFilter) -> Destinations {
        Destinations { filter, domains: Domains::Any }
    }

    #[test]
    fn every_notation_of_a_private_address_is_refused() {
        for address in ["http://127.1/", "http://0x7f000001/", "http://2130706433/", "http://[::1]:80/"] {
            let refused = check(&Url::parse(address).unwrap(), &to(is_public)).unwrap_err();
            assert!(refused.contains("is not a public address"), "{refused}");
            assert_eq!(check(&Url::parse(address).unwrap(), &to(any)), Ok(()));
        }
        assert_eq!(check(&Url::parse("https://example.org").unwrap(), &to(is_public)), Ok(()));
        for address in ["file:///etc/passwd", "ftp://example.org/"] {
            let refused = check(&Url::parse(address).unwrap(), &to(any)).unwrap_err();
            assert_eq!(refused, "only http and https URLs are supported");
        }
    }
}
