//! Formats the results of data migrations and of preparations as text.

use tenure::data::{Migration, Stage, named};
use tenure::ops::{Migrated, Migrator, Prepared, Walked};

use super::human::Human;

impl Human for Prepared {
    fn human(&self) -> String {
        let version = &self.version;
        match self.changed {
            true => format!("Release {version} is prepared; nothing was switched.\n"),
            false => format!("Release {version} was prepared already; nothing was switched.\n"),
        }
    }
}

impl Human for Walked {
    fn human(&self) -> String {
        let Self { from, version, hops, switched, migration } = self;
        let count = match hops.len() {
            1 => "1 hop".to_owned(),
            count => format!("{count} hops"),
        };
        let text = match switched {
            _ if hops.is_empty() => format!("Release {version} is already installed and permanent.\n"),
            true => format!("Reached {version} from {from} in {count}.\n"),
            false => {
                format!(
                    "The upgrade path from {from} to {version} is prepared, {count}; nothing was switched.\n"
                )
            }
        };
        text + &migration.as_ref().map_or_else(String::new, goes_on)
    }
}

impl Human for Migrated {
    fn human(&self) -> String {
        let format = match self.formats.is_empty() {
            true => "No release declares the format of the data.\n".to_owned(),
            false => format!("The data is in {}.\n", named(&self.formats)),
        };
        match (&self.migration, self.changed, self.dry_run) {
            (_, true, true) => format!(
                "Would migrate the data with the migrate hook of {}.\nNothing was changed.\n",
                self.version
            ),
            (Some(migration), true, _) => said(migration),
            (Some(migration @ Migration { stage: Stage::Due | Stage::Running, .. }), ..) => said(migration),
            (_, false, _) => format!("{format}There is nothing to migrate.\n"),
            (None, true, false) => format,
        }
    }
}

/// Returns the line for a migration that runs in the background.
pub fn goes_on(migration: &Migration) -> String {
    format!("Data migration {migration}; run `tenure status` to see its state\n")
}

fn said(migration: &Migration) -> String {
    format!("Data migration {migration}\n")
}

impl Human for Migrator {
    fn human(&self) -> String {
        self.migration.as_ref().map_or_else(String::new, said)
    }
}
