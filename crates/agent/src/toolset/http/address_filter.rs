//! Keeps requests away from addresses that are not public, such as those of the worker's own network.
//!
//! Redirects and host names can lead anywhere, so every redirect is checked, and every address that a name resolves to.

use std::error::Error;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::ClientBuilder;
use reqwest::Url;
use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;
use thiserror::Error;

use super::domains;
use super::domains::Domains;
use crate::environment::Environment;

/// Which addresses may be connected to.
#[derive(Debug, Clone, Copy)]
pub(in crate::toolset) struct AddressFilter {
    /// `None` for all.
    pub(in crate::toolset) allows: Option<fn(IpAddr) -> bool>,
    /// The variable with which the operator allows all, for the text of a refusal.
    pub(in crate::toolset) setting: &'static str,
}

/// An address that the filter refuses. Its text is the same for addresses, names and redirects.
#[derive(Debug, Error)]
#[error("{host} is not a public address (the operator may allow it with {setting})")]
pub(crate) struct NotPublic {
    host: String,
    setting: &'static str,
}

impl AddressFilter {
    /// All addresses where the operator has set this variable, else those of the public internet.
    pub(in crate::toolset) fn of(environment: &Environment, setting: &'static str) -> Self {
        let allows_private = environment.variable(setting).is_some_and(|value| value != "0");
        if allows_private { Self { allows: None, setting } } else { Self::public(setting) }
    }

    /// Addresses of the public internet only.
    pub(in crate::toolset) fn public(setting: &'static str) -> Self {
        Self { allows: Some(is_public), setting }
    }

    /// Makes a client connect to allowed addresses only, as far as names are concerned: an address that a URL spells out,
    /// and each redirect, is [checked](Self::check) by the caller. Unless all are allowed, the client uses no proxy, because
    /// a proxy resolves names itself and the filter would not see their addresses.
    pub(in crate::toolset) fn install(self, builder: ClientBuilder, domains: &Arc<Domains>) -> ClientBuilder {
        if self.allows.is_none() && **domains == Domains::Any {
            return builder;
        }
        let resolver = FilteringResolver { filter: self, domains: Arc::clone(domains) };
        builder.dns_resolver(Arc::new(resolver)).no_proxy()
    }

    /// Checks the host of a URL, if that is an address. A name is checked when the client resolves it.
    ///
    /// # Errors
    ///
    /// The host is not allowed.
    pub(in crate::toolset) fn check(self, url: &Url) -> Result<(), NotPublic> {
        let host = url.host_str().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) if !self.allows(ip) => Err(self.refusal(host)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn allows(self, ip: IpAddr) -> bool {
        self.allows.is_none_or(|allows| allows(ip))
    }

    fn refusal(self, host: &str) -> NotPublic {
        NotPublic { host: host.to_owned(), setting: self.setting }
    }
}

/// The innermost cause of an error. The outer ones repeat the URL, which the result names anyway.
pub(in crate::toolset) fn reason(error: &reqwest::Error) -> String {
    let mut inner: &dyn Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// The system's resolver, without the addresses that the filter refuses.
#[derive(Debug)]
struct FilteringResolver {
    filter: AddressFilter,
    domains: Arc<Domains>,
}

impl Resolve for FilteringResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (filter, domains) = (self.filter, Arc::clone(&self.domains));
        Box::pin(async move {
            let resolved = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let mut allowed: Vec<SocketAddr> =
                resolved.filter(|address| filter.allows(address.ip())).collect();
            if allowed.is_empty() {
                return Err(filter.refusal(name.as_str()).into());
            }
            allowed.retain(|address| !domains.blocks(address.ip()));
            if allowed.is_empty() {
                return Err(domains::blocked(name.as_str()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Allows addresses of the public internet: all but those that a registry reserves for other uses.
fn is_public(ip: IpAddr) -> bool {
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
        // The remaining special ranges of RFC 6890: this network, carrier-grade NAT, protocol assignments, 6to4 relays,
        // benchmarks, reserved.
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
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
        // Local-use translation, discard, documentation (two ranges), Teredo and segment routing; then unique local, link
        // local, site local and multicast.
        [0x64, 0xff9b, 1, ..] | [0x100, 0, 0, 0, ..] | [0x2001, 0xdb8 | 0, ..] | [0x5f00, ..] => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
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
            ("192.88.99.1", false),
            ("192.88.100.1", true),
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
            ("100::1", false),
            ("100:0:0:1::1", true),
            ("3fff::1", false),
            ("3fff:1000::1", true),
            ("5f00::1", false),
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
    fn every_notation_of_a_private_address_is_refused() {
        let filter = |allows| AddressFilter { allows, setting: "SETTING" };
        for address in ["http://127.1/", "http://0x7f000001/", "http://2130706433/", "http://[::1]:80/"] {
            let url = Url::parse(address).unwrap();
            let refused = filter(Some(is_public)).check(&url).unwrap_err().to_string();
            assert!(refused.contains("is not a public address") && refused.contains("SETTING"), "{refused}");
            assert!(filter(None).check(&url).is_ok());
        }
        assert!(filter(Some(is_public)).check(&Url::parse("https://example.org").unwrap()).is_ok());
    }
}
