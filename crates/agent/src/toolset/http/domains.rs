//! Which hosts may be fetched from: `allowed_domains` and `blocked_domains` of a toolset. Pure.

use std::net::IpAddr;

use reqwest::Url;

/// The hosts that may be fetched from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::toolset) enum Domains {
    /// All.
    #[default]
    Any,
    /// Those that one of the patterns matches.
    Allowed(Vec<Pattern>),
    /// All but those that one of the patterns matches.
    Blocked(Vec<Pattern>),
}

/// A pattern of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::toolset) enum Pattern {
    /// A host, and all hosts below it: `example.com`.
    HostAndBelow(String),
    /// The hosts below one: `.example.com`, `*.example.com`.
    Below(String),
    /// Addresses that begin with these bits: `10.0.0.0/8`, `192.0.2.1`.
    Network(IpAddr, u8),
}

impl Domains {
    /// Reads the lists of an agent file, of which at most one has entries.
    ///
    /// # Errors
    ///
    /// An entry is not a pattern. The toolset must not be opened then.
    pub(in crate::toolset) fn new(allowed: &[String], blocked: &[String]) -> Result<Self, String> {
        let patterns = |entries: &[String]| {
            entries.iter().map(|entry| Pattern::parse(entry)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match (allowed, blocked) {
            ([], []) => Self::Any,
            ([], blocked) => Self::Blocked(patterns(blocked)?),
            (allowed, _) => Self::Allowed(patterns(allowed)?),
        })
    }

    /// Checks the host of a URL.
    ///
    /// # Errors
    ///
    /// The text for the model.
    pub(in crate::toolset) fn check(&self, url: &Url) -> Result<(), String> {
        let host = url.host_str().unwrap_or_default();
        let matches = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(host));
        match self {
            Self::Allowed(patterns) if !matches(patterns) => {
                Err(format!("{host} is not in allowed_domains of this toolset"))
            }
            Self::Blocked(patterns) if matches(patterns) => Err(blocked(host)),
            Self::Any | Self::Allowed(_) | Self::Blocked(_) => Ok(()),
        }
    }

    /// Whether an address that a host's name resolves to is blocked.
    pub(in crate::toolset) fn blocks(&self, address: IpAddr) -> bool {
        match self {
            Self::Blocked(patterns) => patterns.iter().any(|pattern| pattern.has(address)),
            Self::Any | Self::Allowed(_) => false,
        }
    }
}

/// The text for the model about a host that `blocked_domains` has.
pub(super) fn blocked(host: &str) -> String {
    format!("{host} is in blocked_domains of this toolset")
}

impl Pattern {
    fn parse(entry: &str) -> Result<Self, String> {
        let text = entry.trim().trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(Self::Network(address, bits(address)));
        }
        if let Some((address, length)) = text.split_once('/') {
            let network = address.parse::<IpAddr>().ok().zip(length.parse::<u8>().ok());
            return match network {
                Some((address, length)) if length <= bits(address) => Ok(Self::Network(address, length)),
                _ => Err(format!("`{entry}` is not a host or a network")),
            };
        }
        let (below, name) = match text.strip_prefix("*.").or_else(|| text.strip_prefix('.')) {
            Some(name) => (true, name),
            None => (false, text.as_str()),
        };
        let is_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(format!(
                "`{entry}` is not a host or a network; write it without scheme, port and path"
            ));
        }
        // A URL has the name in this form.
        let name =
            Url::parse(&format!("http://{name}")).ok().and_then(|url| url.host_str().map(str::to_owned));
        let name = name.ok_or_else(|| format!("`{entry}` is not a host"))?;
        Ok(if below { Self::Below(name) } else { Self::HostAndBelow(name) })
    }

    fn matches(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return self.has(address);
        }
        let is_below = |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        match self {
            Self::HostAndBelow(name) => host == *name || is_below(name),
            Self::Below(name) => is_below(name),
            Self::Network(..) => false,
        }
    }

    /// Whether an address is in this network, whichever form it has.
    fn has(&self, address: IpAddr) -> bool {
        let Self::Network(network, length) = self else { return false };
        let shifted = |value: u128, width: u32| {
            value.checked_shr(width.saturating_sub(u32::from(*length))).unwrap_or_default()
        };
        match (network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                shifted(network.to_bits().into(), 32) == shifted(address.to_bits().into(), 32)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                shifted(network.to_bits(), 128) == shifted(address.to_bits(), 128)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// How many bits an address of this kind has.
fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(allowed: &[&str], blocked: &[&str]) -> Result<Domains, String> {
        let owned = |list: &[&str]| list.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>();
        Domains::new(&owned(allowed), &owned(blocked))
    }

    #[test]
    fn a_pattern_is_a_host_the_hosts_below_one_or_a_network() {
        let table = [
            ("example.com", "http://example.com/", true),
            ("Example.com.", "http://EXAMPLE.com./", true),
            ("example.com", "http://docs.example.com:8080/", true),
            ("example.com", "http://badexample.com/", false),
            ("example.com", "http://example.com.evil.org/", false),
            ("example.com", "http://example.com@evil.org/", false),
            (".example.com", "http://example.com/", false),
            ("*.example.com", "http://a.b.example.com/", true),
            ("bücher.de", "http://xn--bcher-kva.de/", true),
            ("192.0.2.1", "http://192.0.2.1/", true),
            ("192.0.2.1", "http://0xc0000201/", true),
            ("192.0.2.0/24", "http://192.0.2.77/", true),
            ("192.0.2.0/24", "http://192.0.3.1/", false),
            ("192.0.2.0/24", "http://[::ffff:192.0.2.9]/", true),
            ("0.0.0.0/0", "http://8.8.8.8/", true),
            ("2001:db8::/32", "http://[2001:db8:1::1]/", true),
            ("2001:db8::/32", "http://[2001:db9::1]/", false),
            ("10.0.0.0/8", "http://ten.example.com/", false),
        ];
        for (pattern, url, expected) in table {
            let url = Url::parse(url).unwrap();
            assert_eq!(domains(&[pattern], &[]).unwrap().check(&url).is_ok(), expected, "{pattern} {url}");
            assert_eq!(domains(&[], &[pattern]).unwrap().check(&url).is_err(), expected, "{pattern} {url}");
        }
        assert_eq!(domains(&[], &[]).unwrap(), Domains::Any);
    }

    #[test]
    fn a_blocked_network_holds_for_addresses_of_names() {
        let blocked = domains(&[], &["10.0.0.0/8", "example.com"]).unwrap();
        assert!(blocked.blocks("10.1.2.3".parse().unwrap()) && !blocked.blocks("11.1.2.3".parse().unwrap()));
        assert!(!domains(&["10.0.0.0/8"], &[]).unwrap().blocks("10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn what_is_not_a_pattern_is_an_error() {
        for entry in ["https://example.com", "example.com/path", "10.0.0.0/33", "a b", "*.", "", "a.com:80"] {
            assert!(domains(&[entry], &[]).is_err(), "{entry}");
        }
    }
}
