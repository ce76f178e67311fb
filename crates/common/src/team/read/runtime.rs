//! Reads the defaults of a session: its safety mode and its budget.

use std::collections::BTreeMap;

use super::agent::read_safety;
use crate::team::agent::SafetyMode;
use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::reader::Reader;
use crate::team::resolved::Budget;
use crate::team::tree::Node;

/// The highest number of tokens of a budget; far more than a session uses, and safe in arithmetic.
const MAX_TOKENS: i64 = 1 << 50;
/// The highest cost of a budget in US dollars; safe in arithmetic too.
const MAX_COST: f64 = 1e9;

/// Reads `runtime`.
pub(super) fn read(reader: &mut Reader<'_>, file: &Fields<'_>) -> Option<SafetyMode> {
    let fields = reader.fields(file.node("runtime")?, &keys::RUNTIME)?;
    fields.bool(reader, "sandbox");
    fields.strings(reader, "network_allowlist");
    read_safety(reader, &fields)
}

/// Reads `budget` of the file, or an entry of `budgets`. Zero means no limit, as in docker-agent.
pub(super) fn read_budget(reader: &mut Reader<'_>, node: &Node) -> Option<Budget> {
    let fields = reader.fields(node, &keys::BUDGET)?;
    let tokens = fields.integer(reader, "max_tokens", 0, MAX_TOKENS).unwrap_or_default();
    let budget = Budget {
        max_tokens: u64::try_from(tokens).unwrap_or_default(),
        max_cost: fields.number(reader, "max_cost", 0.0, MAX_COST).filter(|cost| *cost > 0.0),
        max_time: fields.duration(reader, "max_time").filter(|time| !time.is_zero()),
    };
    (budget != Budget::default()).then_some(budget)
}

/// Reads `budgets`. A budget without a limit can be named too.
pub(super) fn read_budgets(reader: &mut Reader<'_>, file: &Fields<'_>) -> BTreeMap<String, Budget> {
    let entries = file.map(reader, "budgets", "a map of names to budgets");
    entries
        .iter()
        .map(|entry| (entry.key.clone(), read_budget(reader, &entry.node).unwrap_or_default()))
        .collect()
}
