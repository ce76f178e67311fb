//! Reads the defaults of a session: its safety mode and its budget.

use super::agent::read_safety;
use crate::team::agent::SafetyMode;
use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::reader::Reader;
use crate::team::resolved::Budget;

/// The highest number of tokens of a budget; far more than a session uses, and safe in arithmetic.
const MAX_TOKENS: i64 = 1 << 50;

/// Reads `runtime`.
pub(super) fn read(reader: &mut Reader<'_>, file: &Fields<'_>) -> Option<SafetyMode> {
    let fields = reader.fields(file.node("runtime")?, &keys::RUNTIME)?;
    fields.bool(reader, "sandbox");
    fields.strings(reader, "network_allowlist");
    read_safety(reader, &fields)
}

/// Reads `budget`. Zero means no limit, as in docker-agent.
pub(super) fn read_budget(reader: &mut Reader<'_>, file: &Fields<'_>) -> Option<Budget> {
    let fields = reader.fields(file.node("budget")?, &keys::BUDGET)?;
    let tokens = fields.integer(reader, "max_tokens", 0, MAX_TOKENS)?;
    let max_tokens = u64::try_from(tokens).ok().filter(|tokens| *tokens > 0)?;
    Some(Budget { max_tokens })
}
