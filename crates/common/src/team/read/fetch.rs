//! Reads a toolset of type `fetch`.

use super::toolset::read_entries;
use super::toolset::seconds;
use crate::team::fields::Fields;
use crate::team::reader::Reader;
use crate::team::source::excerpt;
use crate::team::toolset::Fetch;
use crate::team::toolset::ToolsetKind;

/// Reads `fetch`.
pub(super) fn read_fetch(reader: &mut Reader<'_>, fields: &Fields<'_>) -> ToolsetKind {
    let allowed_domains = read_domains(reader, fields, "allowed_domains");
    let blocked_domains = read_domains(reader, fields, "blocked_domains");
    if let Some(entry) = fields.entry("blocked_domains").filter(|_| !allowed_domains.is_empty()) {
        let message = "allowed_domains and blocked_domains are mutually exclusive";
        reader.error(entry.key_at, message, Some("set only one of them".to_owned()));
    }
    fields.bool(reader, "escape_html");
    ToolsetKind::Fetch(Fetch {
        timeout: seconds(reader, fields),
        headers: fields.string_map(reader, "headers"),
        allowed_domains,
        blocked_domains,
        allow_private_ips: fields.bool(reader, "allow_private_ips"),
    })
}

/// Reads a list of hosts. An entry that no host can match is an error: a list without it would mean something else.
fn read_domains(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &str) -> Vec<String> {
    for (text, at) in fields.positioned_strings(reader, name) {
        if !text.trim().is_empty() && !is_host_or_network(&text) {
            let message = format!("`{}` in `{name}` is not a host or a network", excerpt(&text));
            let hint = "write it without scheme, port and path: `example.com`, `*.example.com`, `10.0.0.0/8`";
            reader.error(at, message, Some(hint.to_owned()));
        }
    }
    read_entries(reader, fields, name)
}

/// Whether an entry looks like a host, the hosts below one, an address or a network. The toolset reads it exactly.
fn is_host_or_network(text: &str) -> bool {
    let text = text.trim().trim_end_matches('.');
    let is_address = |text: &str| {
        let text = text.trim_matches(['[', ']']);
        text.chars().all(|c| c.is_ascii_hexdigit() || ".:".contains(c)) && text.contains(['.', ':'])
    };
    if let Some((network, length)) = text.split_once('/') {
        return is_address(network) && length.parse::<u8>().is_ok_and(|length| length <= 128);
    }
    let name = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
    is_name || text.matches(':').count() > 1 && is_address(text)
}
