//! Which addresses may be reached. A page names others, and a name can lead anywhere, so the check is made at every
//! redirect and for what every name resolves to.

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

use crate::toolset::http;

/// The most redirects that are followed.
const REDIRECTS: usize = 10;

/// Says which addresses may be reached.
pub(super) type Allowed = fn(IpAddr) -> bool;

/// An address that is not public.
#[derive(Debug, Error)]
#[error("{place} is not a public address (the operator may allow it with {})", variables::FETCH_PRIVATE)]
struct Refused {
    place: String,
}

/// A client that reaches allowed addresses only.
///
/// It uses no proxy: behind one nobody here sees where a name leads.
///
/// # Errors
///
/// The library's.
pub(super) fn client(allowed: Allowed) -> Result<Client, reqwest::Error> {
    let redirects = Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS {
            return attempt.error("too many redirects");
        }
        match check(attempt.url(), allowed) {
            Ok(()) => attempt.follow(),
            Err(refused) => attempt.error(refused),
        }
    });
    Client::builder()
        .user_agent(http::USER_AGENT)
        .redirect(redirects)
        .dns_resolver(Arc::new(Resolver { allowed }))
        .no_proxy()
        .build()
}

/// Whether an address may be asked at all. Where it is a name, the client checks what that resolves to.
///
/// # Errors
///
/// Why not.
pub(super) fn check(address: &Url, allowed: Allowed) -> Result<(), String> {
    if !matches!(address.scheme(), "http" | "https") {
        return Err("only http and https URLs are supported".to_owned());
    }
    let Some(host) = address.host_str() else { return Err("the URL names no host".to_owned()) };
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) if !allowed(ip) => Err(Refused { place: host.to_owned() }.to_string()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The innermost reason of an error: the outer ones name the address again.
pub(super) fn why(error: &reqwest::Error) -> String {
    let mut inner: &dyn Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// The system's resolver, without what may not be reached.
#[derive(Debug)]
struct Resolver {
    allowed: Allowed,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allowed;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let may: Vec<SocketAddr> = found.into_iter().filter(|address| allowed(address.ip())).collect();
            if may.is_empty() {
                return Err(Refused { place: name.as_str().to_owned() }.into());
            }
            Ok(Box::new(may.into_iter()) as Addrs)
        })
    }
}

/// Any address.
pub(super) fn any(_ip: IpAddr) -> bool {
    true
}

/// Whether an address is one of the internet's, where it is not known to be another.
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
        // This network, shared by carriers, protocol assignments, benchmarks, reserved.
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240;
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let pieces = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match pieces {
        // Unspecified, loopback, and the ways to write an IPv4 address in it.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            ip.to_ipv4().is_some_and(|_| high != 0 || low > 1) && v4(high, low)
        }
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        // Translated within a network, unique local, link local, site local, multicast, documentation, Teredo.
        [0x64, 0xff9b, 1, ..] | [0x2001, 0xdb8 | 0, ..] => false,
        [first, ..] => first & 0xfe00 != 0xfc00 && first & 0xff80 != 0xfe80 && first < 0xff00,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses() {
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

    #[test]
    fn addresses_however_they_are_written() {
        for address in ["http://127.1/", "http://0x7f000001/", "http://2130706433/", "http://[::1]:80/"] {
            let refused = check(&Url::parse(address).unwrap(), is_public).unwrap_err();
            assert!(refused.contains("is not a public address"), "{refused}");
            assert_eq!(check(&Url::parse(address).unwrap(), any), Ok(()));
        }
        assert_eq!(check(&Url::parse("https://example.org").unwrap(), is_public), Ok(()));
        for address in ["file:///etc/passwd", "ftp://example.org/"] {
            let refused = check(&Url::parse(address).unwrap(), any).unwrap_err();
            assert_eq!(refused, "only http and https URLs are supported");
        }
    }
}
