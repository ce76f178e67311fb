//! What the namespace agrees on: reading it, and changing it.

use crate::error::QueueError;
use crate::operator::Operator;
use crate::settings::FleetSettings;
use crate::settings::SettingsChange;

impl Operator {
    /// The settings that this process works with: those of the namespace when it connected.
    pub fn settings(&self) -> &FleetSettings {
        self.queue().settings()
    }

    /// Changes settings of the namespace and returns all of them. Programs read the settings when they connect, so that
    /// those that run keep the old ones until they restart.
    ///
    /// # Errors
    ///
    /// [`QueueError`] for a value out of its bounds, or when Redis cannot be reached.
    pub async fn configure(&self, change: SettingsChange) -> Result<FleetSettings, QueueError> {
        self.queue().change_settings(change).await
    }
}
