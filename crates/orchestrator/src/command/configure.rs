//! `legwork configure`: what the namespace agrees on, shown or changed.

use legwork_common::duration;
use legwork_common::error::ExitStatus;
use legwork_queue::ConnectionKind;
use legwork_queue::settings::FleetSettings;
use legwork_queue::settings::SettingsChange;
use serde_json::Value;
use serde_json::json;

use crate::cli::ConfigureArgs;
use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::table;
use crate::render::table::Column;

const COLUMNS: [Column; 3] = [Column::whole("SETTING"), Column::whole("VALUE"), Column::cut("MEANING")];

/// Shows the settings, after it has changed those that are named.
pub(super) async fn configure(context: Context, args: ConfigureArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Pooled).await?;
    let shown = change_and_show(&context, &connection, &args).await;
    connection.leave().await?;
    shown.map(|()| ExitStatus::Success)
}

async fn change_and_show(
    context: &Context,
    connection: &Connection,
    args: &ConfigureArgs,
) -> Result<(), Failure> {
    let change = SettingsChange {
        lease: args.lease,
        retention: args.retention,
        max_crashes: args.max_crashes,
        output_cap: args.output_cap,
        session_cap: args.session_cap,
        session_jobs: args.session_jobs,
    };
    let settings = connection.operator.configure(change).await?;
    if context.output.json {
        context.output.object(&object(&context.common.namespace, &settings))?;
    } else {
        context.output.text(&text(&settings, context.output.width))?;
    }
    let workers = if change.is_empty() { 0 } else { connection.operator.workers().await?.len() };
    if workers > 0 {
        context.output.note(&format!(
            "programs that run keep the old settings until they restart, {workers} of them workers"
        ));
    }
    Ok(())
}

fn object(namespace: &str, settings: &FleetSettings) -> Value {
    json!({
        "namespace": namespace,
        "shards": settings.shards,
        "lease_ms": u64::try_from(settings.lease.as_millis()).unwrap_or(u64::MAX),
        "retention_ms": u64::try_from(settings.retention.as_millis()).unwrap_or(u64::MAX),
        "max_crashes": settings.max_crashes,
        "output_cap": settings.output_cap,
        "session_cap": settings.session_cap,
        "session_jobs": settings.session_jobs,
    })
}

/// A table of the settings.
fn text(settings: &FleetSettings, width: Option<usize>) -> String {
    let limit = |number: u32| if number == 0 { "none".to_owned() } else { number.to_string() };
    let rows = [
        ("shards", settings.shards.to_string(), "parts of the data; fixed when the namespace is created"),
        ("lease", duration::setting(settings.lease), "how long a job of a dead worker waits for another"),
        ("retention", duration::setting(settings.retention), "how long ended jobs are kept"),
        ("max-crashes", settings.max_crashes.to_string(), "crashes in a row until a job fails"),
        ("output-cap", settings.output_cap.to_string(), "bytes of output that a job keeps"),
        ("session-cap", limit(settings.session_cap), "jobs of a new session admitted at once for each queue"),
        (
            "session-jobs",
            limit(settings.session_jobs),
            "jobs of a new session that may be unfinished at once",
        ),
    ];
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(setting, value, meaning)| vec![setting.to_owned(), value, meaning.to_owned()])
        .collect();
    table::text(&COLUMNS, &rows, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_fit_eighty_columns() {
        let settings = FleetSettings::default();
        insta::assert_snapshot!("configure_80", text(&settings, Some(80)));
        insta::assert_json_snapshot!("configure_json", object("default", &settings));
    }
}
