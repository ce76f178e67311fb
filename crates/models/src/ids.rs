//! Ids of calls in the form that a provider takes: another provider, whose id it is, may have other rules.

/// The base in which a made id is written: digits and small letters.
const BASE: u64 = 36;

/// The id itself if it has at most `longest` characters and only such ones, else one that is made from it: always the
/// same, so that a result finds its call.
pub(crate) fn fitted(id: &str, longest: usize, takes: impl Fn(char) -> bool) -> String {
    if !id.is_empty() && id.chars().count() <= longest && id.chars().all(takes) {
        return id.to_owned();
    }
    made(id)
}

/// Nine letters and digits, which every provider takes.
pub(crate) fn made(id: &str) -> String {
    let mut hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let digit = |_| {
        let digit = u32::try_from(hash % BASE).unwrap_or_default();
        hash /= BASE;
        char::from_digit(digit, 36).unwrap_or('0')
    };
    (0..9).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_kept_where_it_fits() {
        let takes = |c: char| c.is_ascii_alphanumeric();
        assert_eq!(fitted("abc", 9, takes), "abc");
        for id in ["", "call_1", "functions.note:0", "aaaaaaaaaaaa"] {
            let made = fitted(id, 9, takes);
            assert!(made.len() == 9 && made.chars().all(takes), "{made}");
            assert_eq!(made, fitted(id, 9, takes));
        }
        assert_ne!(made("call_1"), made("call_2"));
    }
}
