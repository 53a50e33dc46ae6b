//! What a run's numbers follow from, kept in its checkpoints: settings and images.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::data::{Dataset, Fingerprint};

/// Settings that a run may go on with other values of.
pub const MAY_CHANGE: [&str; 4] = ["epochs", "steps", "lr", "schedule"];

/// The origin of a run's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    settings: toml::Table,
    data: Fingerprint,
}

impl Origin {
    /// Of a run with these settings on these images.
    ///
    /// # Errors
    /// A setting cannot be written down.
    pub fn new(settings: &Settings, data: &Dataset) -> Result<Self> {
        Ok(Self {
            settings: toml::Table::try_from(settings)?,
            data: Fingerprint::from_dataset(data),
        })
    }

    /// Refuses to go on from a checkpoint of other settings, but for those that may change, or other images.
    ///
    /// # Errors
    /// They are others; with what changed.
    pub fn refuse_changes_since(&self, earlier: &Self, checkpoint: &Path) -> Result<()> {
        let at = checkpoint.display();
        let earlier_settings = Settings::from_table(&earlier.settings)
            .with_context(|| format!("{at} is of another version of gsgd"))?;
        let before = toml::Table::try_from(&earlier_settings)?;
        let changed = first_change(&before, &self.settings, &MAY_CHANGE);
        if let Some((key, before, now)) = changed {
            bail!(
                "{at} is the state of a run with {key} = {before}, config.toml has {key} = {now}: set it back, or begin \
                 another run with gsgd train --config; a run may go on with other values of --{} alone",
                MAY_CHANGE.join(", --")
            );
        }
        let changes = self.data.changes_since(&earlier.data);
        ensure!(
            changes.is_empty(),
            "the images are not those that the run in {at} was trained on; other than they were: {}. Bring them back, or \
             begin another run",
            changes.join(", ")
        );
        Ok(())
    }

    /// What is other in the images that there are now, in words.
    pub fn changes_of_data(&self, now: &Fingerprint) -> Vec<String> {
        now.changes_since(&self.data)
    }
}

/// The first key with another value, and both values as TOML.
pub fn first_change(
    before: &toml::Table,
    now: &toml::Table,
    except: &[&str],
) -> Option<(String, String, String)> {
    let keys = before.keys().chain(now.keys());
    let mut keys = keys.filter(|key| !except.contains(&key.as_str()));
    let key = keys.find(|&key| before.get(key) != now.get(key))?;
    let value = |table: &toml::Table| {
        let value = table.get(key);
        value.map_or("no value".into(), ToString::to_string)
    };
    Some((key.clone(), value(before), value(now)))
}
