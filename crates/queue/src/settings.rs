//! Fleet-wide settings: the same for all processes of a namespace, fixed in its meta key by its first user.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::keys::Keys;
use crate::link::Link;

/// The data format of this release. A namespace of another format is refused.
const FORMAT: u32 = 3;
/// The shortest lease that is accepted, in milliseconds: below that, renewals would come faster than their answers.
const MIN_LEASE_MS: u64 = 100;
/// The greatest number of shards. A round of reaping makes a call for each.
const MAX_SHARDS: u32 = 1024;
/// The shards of a new namespace on a Cluster, where nothing else was asked for: a few for each of some masters.
const CLUSTER_SHARDS: u16 = 16;
/// Unfinished jobs that a session may have by default. Far more than a fleet works on at once, and few enough that the
/// memory of one runaway session stays below some tens of megabytes.
pub const DEFAULT_SESSION_JOBS: u32 = 10_000;
/// What reading the settings is called in messages.
const ASKED: &str = "read the namespace's settings";

/// The settings of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetSettings {
    /// How many shards, 1 to 1024. Fixed when the namespace is created, because an id and this number give the shard of
    /// a record.
    pub shards: u16,
    /// How long a lease holds without renewal: after this a job of a dead worker is reclaimed.
    pub lease: Duration,
    /// How long ended jobs are kept.
    pub retention: Duration,
    /// After how many crashes in a row, with no finished turn between them, a job fails. At least 1.
    pub max_crashes: u32,
    /// How many bytes of output a job keeps.
    pub output_cap: u64,
    /// How many jobs of a session are admitted at once for each queue, unless the session has its own cap.
    pub session_cap: u32,
    /// How many jobs of a session may be unfinished at once, unless the session has its own quota; 0 for no limit.
    pub session_jobs: u32,
}

/// New values of settings; `None` leaves one as it is. The number of shards cannot be changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// How long a lease holds without renewal; at least 100 ms.
    pub lease: Option<Duration>,
    /// How long ended jobs are kept.
    pub retention: Option<Duration>,
    /// After how many crashes in a row a job fails; at least 1.
    pub max_crashes: Option<u32>,
    /// How many bytes of output a job keeps.
    pub output_cap: Option<u64>,
    /// How many jobs of a new session are admitted at once for each queue; 0 for no cap.
    pub session_cap: Option<u32>,
    /// How many jobs of a new session may be unfinished at once; 0 for no limit.
    pub session_jobs: Option<u32>,
}

impl SettingsChange {
    /// Whether it changes anything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The fields of the meta key that it sets.
    fn fields(self) -> Vec<(&'static str, u64)> {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let fields = [
            ("lease_ms", self.lease.map(|lease| ms(lease).max(MIN_LEASE_MS))),
            ("retention_ms", self.retention.map(ms)),
            ("max_crashes", self.max_crashes.map(|crashes| u64::from(crashes.max(1)))),
            ("output_cap", self.output_cap),
            ("session_cap", self.session_cap.map(u64::from)),
            ("session_jobs", self.session_jobs.map(u64::from)),
        ];
        fields.into_iter().filter_map(|(field, value)| Some((field, value?))).collect()
    }
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self {
            // Enough for one server; a Cluster needs more to spread its load.
            shards: 1,
            // Two renewals may fail within it, and the job of a dead worker is back within seconds.
            lease: Duration::from_secs(10),
            retention: Duration::from_secs(24 * 3600),
            // A job that kills its worker must not take down one after another; one crash may be bad luck.
            max_crashes: 3,
            output_cap: 10 * 1024 * 1024,
            // One session must not fill a fleet's slots.
            session_cap: 20,
            session_jobs: DEFAULT_SESSION_JOBS,
        }
    }
}

impl FleetSettings {
    /// The interval at which a lease is renewed: three tenths of it, so that two renewals may fail before it runs out.
    pub fn renew_every(&self) -> Duration {
        self.lease * 3 / 10
    }

    /// The fields of the meta key.
    fn fields(&self) -> [(&'static str, u64); 8] {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        [
            ("format", u64::from(FORMAT)),
            ("shards", u64::from(self.shards)),
            ("lease_ms", ms(self.lease)),
            ("retention_ms", ms(self.retention)),
            ("max_crashes", u64::from(self.max_crashes)),
            ("output_cap", self.output_cap),
            ("session_cap", u64::from(self.session_cap)),
            ("session_jobs", u64::from(self.session_jobs)),
        ]
    }

    /// Reads the namespace's settings. Each field is written first if it is missing, so the first user decides, and a
    /// field that a new release adds is set by the first process of that release.
    ///
    /// # Errors
    ///
    /// [`QueueError::Namespace`] for another data format, or another number of shards than `wanted` has.
    pub(crate) async fn agree(namespace: &str, wanted: &Self, link: &Link) -> Result<Self, QueueError> {
        let failed = |error| QueueError::from_redis(ASKED, error);
        let meta = Keys::new(namespace, 1).meta();
        let mut pipeline = redis::pipe();
        let is_default = wanted.shards == Self::default().shards;
        let shards = if link.is_cluster() && is_default { CLUSTER_SHARDS } else { wanted.shards };
        for (field, value) in (Self { shards, ..wanted.clone() }).fields() {
            pipeline.cmd("HSETNX").arg(&meta).arg(field).arg(value);
        }
        pipeline.cmd("HGETALL").arg(&meta);
        // A full server refuses the writes. That must not keep a process from connecting to finish its jobs, so only
        // the answer of the read counts.
        let mut answers = link.pipeline(&pipeline).await.map_err(failed)?;
        let all = answers.pop().unwrap_or(redis::Value::Nil).extract_error().map_err(failed)?;
        let stored = Answer::of(ASKED, all)
            .pairs()?
            .into_iter()
            .map(|(field, value)| Ok((field, value.text()?)))
            .collect::<Result<BTreeMap<_, _>, QueueError>>()?;
        let agreed = Self::read(namespace, &stored)?;
        // The number of shards decides where a record is: a process with another number would search the wrong shard.
        if !is_default && wanted.shards != agreed.shards {
            let detail = format!("has {} shards, not {}", agreed.shards, wanted.shards);
            return Err(QueueError::Namespace { namespace: namespace.to_owned(), detail });
        }
        Ok(agreed)
    }

    /// Changes the namespace's settings in one step, and reads all of them.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis refuses or cannot be reached.
    pub(crate) async fn change(
        namespace: &str,
        change: SettingsChange,
        link: &Link,
    ) -> Result<Self, QueueError> {
        let meta = Keys::new(namespace, 1).meta();
        let mut command = redis::cmd("HSET");
        command.arg(meta);
        for (field, value) in change.fields() {
            command.arg(field).arg(value);
        }
        if !change.is_empty() {
            link.ask(ASKED, &command).await?;
        }
        Self::agree(namespace, &Self::default(), link).await
    }

    /// Reads the fields of the meta key.
    fn read(namespace: &str, stored: &BTreeMap<String, String>) -> Result<Self, QueueError> {
        let wrong = |detail: String| QueueError::Namespace { namespace: namespace.to_owned(), detail };
        let number = |field: &str| -> Result<u64, QueueError> {
            let text = stored.get(field).map(String::as_str).unwrap_or_default();
            text.parse().map_err(|_| wrong(format!("has the setting {field} = `{text}`")))
        };
        if number("format")? != u64::from(FORMAT) {
            return Err(wrong(format!("has data format {}, this release knows {FORMAT}", number("format")?)));
        }
        let small = |field: &str| -> Result<u32, QueueError> {
            number(field)?.try_into().map_err(|_| wrong(format!("has a setting {field} out of bounds")))
        };
        let shards = small("shards")?;
        if !(1..=MAX_SHARDS).contains(&shards) {
            return Err(wrong(format!("has {shards} shards")));
        }
        Ok(Self {
            shards: u16::try_from(shards).unwrap_or(1),
            lease: Duration::from_millis(number("lease_ms")?.max(MIN_LEASE_MS)),
            retention: Duration::from_millis(number("retention_ms")?),
            max_crashes: small("max_crashes")?.max(1),
            output_cap: number("output_cap")?,
            session_cap: small("session_cap")?,
            // A server that is full when this release comes to it does not take the field.
            session_jobs: match stored.get("session_jobs") {
                Some(_) => small("session_jobs")?,
                None => DEFAULT_SESSION_JOBS,
            },
        })
    }
}
