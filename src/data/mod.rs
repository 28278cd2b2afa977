//! The data that a service keeps: which format it is in, which releases can start on it, and what a migration makes of
//! it. Pure.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::version::Version;

/// A data format, by the number that its vendor gave it.
pub type DataFormat = u32;

/// The manifest's table `[data]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", try_from = "RawData")]
pub struct Formats {
    /// The one that the release writes.
    pub writes: DataFormat,
    /// Those that it can start on, the one that it writes among them.
    pub reads: Vec<DataFormat>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawData {
    writes: DataFormat,
    reads: Option<Vec<DataFormat>>,
}

impl TryFrom<RawData> for Formats {
    type Error = Error;

    fn try_from(RawData { writes, reads }: RawData) -> Result<Self> {
        let reads = reads.unwrap_or_else(|| vec![writes]);
        if reads.contains(&writes) {
            return Ok(Self { writes, reads });
        }
        Err(Error::refused(format!("reads does not hold {writes}, which the release writes")))
    }
}

/// What is known of the data on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnDisk {
    /// The formats that it is in, or was before a migration that is not done; none where nobody has said so. They are
    /// several where a release was gone down to that reads the higher ones and writes a lower one.
    pub formats: BTreeSet<DataFormat>,
    /// The last migration; none where none was ever begun.
    pub migration: Option<Migration>,
}

/// A migration: the release's own program that brings the data into its format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Names it, in its log and among the processes.
    pub id: String,
    /// The release whose program it is.
    pub version: Version,
    /// The release that was permanent before.
    pub old: Option<Version>,
    /// The format that it makes; none where the release does not say.
    pub to: Option<DataFormat>,
    /// How it stands.
    pub stage: Stage,
    /// When it was begun, or was to be, in RFC 3339.
    pub started: String,
    /// When it ended, in RFC 3339; none where that is not known.
    pub ended: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Migration {
    /// One that is to begin.
    #[must_use]
    pub fn due(
        id: String,
        started: String,
        version: &Version,
        old: Option<&Version>,
        to: Option<DataFormat>,
    ) -> Self {
        let (version, old) = (version.clone(), old.cloned());
        Self { id, version, old, to, stage: Stage::Due, started, ended: None, error: None }
    }

    fn undone(&self) -> Error {
        Error::refused(format!("a data migration is not done: {self}"))
    }

    /// What is said to who would have to wait for it.
    fn held_up(&self) -> Error {
        self.undone().hint(match self.stage {
            Stage::Failed => "`tenure status` tells why; once that is mended `tenure migrate` runs it again",
            _ => "`tenure migrate` waits for its end",
        })
    }
}

/// How a migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It is to begin.
    Due,
    /// It is under way.
    Running,
    /// It has brought the data into its format.
    Done,
    /// It has not, and the data may be in either format.
    Failed,
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, to, stage, started, .. } = self;
        match to {
            Some(format) => write!(f, "to data format {format} by {version}, ")?,
            None => write!(f, "by {version}, ")?,
        }
        let ended = self.ended.as_deref().unwrap_or("an unknown time");
        match stage {
            Stage::Due => write!(f, "to begin since {started}"),
            Stage::Running => write!(f, "running since {started}"),
            Stage::Done => write!(f, "done at {ended}"),
            Stage::Failed => write!(f, "failed at {ended}"),
        }
    }
}

/// What becomes of the data once a release is permanent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Becoming {
    /// Nothing.
    Same,
    /// It is in these formats from then on.
    Formats(BTreeSet<DataFormat>),
    /// Its program migrates the data, to this format where it says so.
    Migrated(Option<DataFormat>),
}

impl OnDisk {
    /// A migration that is not done: nobody knows which of both formats the data is in.
    #[must_use]
    pub fn unfinished(&self) -> Option<&Migration> {
        self.migration.as_ref().filter(|migration| migration.stage != Stage::Done)
    }

    /// The same, once a migration that is at work has done what it is there for.
    #[must_use]
    pub fn foreseen(self) -> Self {
        match self.migration {
            Some(Migration { stage: Stage::Due | Stage::Running, to, .. }) => {
                Self { formats: migrated(to), migration: None }
            }
            _ => self,
        }
    }

    /// A migration that brings or has brought the data into a format that nobody has said, or is not done with what it was
    /// in before, where nobody has said that.
    fn obscuring(&self) -> Option<&Migration> {
        let was_unsaid = self.formats.is_empty();
        let is_open = self.unfinished().is_some();
        self.migration.as_ref().filter(|migration| match migration.to {
            None => is_open || was_unsaid,
            Some(_) => is_open && was_unsaid,
        })
    }

    /// The same, where nothing was written down about the format: then the permanent release tells it, unless it is
    /// only about to bring the data into it.
    #[must_use]
    pub fn or_of(self, permanent: Option<&Formats>) -> Self {
        match permanent {
            Some(Formats { writes, .. }) if self.formats.is_empty() && self.unfinished().is_none() => {
                Self { formats: BTreeSet::from([*writes]), ..self }
            }
            _ => self,
        }
    }

    /// The formats that the data may be in: also what a migration makes that is not done.
    #[must_use]
    pub fn possible(&self) -> BTreeSet<DataFormat> {
        let made = self.unfinished().and_then(|migration| migration.to);
        self.formats.iter().copied().chain(made).collect()
    }

    /// What another migration begins with; nothing where nobody knows what all of it is.
    #[must_use]
    pub fn to_migrate(&self) -> BTreeSet<DataFormat> {
        if self.formats.is_empty() { BTreeSet::new() } else { self.possible() }
    }

    /// Whether a release that writes this format has nothing to migrate.
    #[must_use]
    pub fn is_only(&self, format: DataFormat) -> bool {
        self.possible().into_iter().eq([format])
    }

    /// Refuses a release that cannot start on the data, or that may not while a migration is not done. `from` is the
    /// permanent one; the release that is gone to may have a program that `migrates`.
    ///
    /// # Errors
    /// Refused, naming the formats, or how the migration stands.
    pub fn admits(
        &self,
        from: &Version,
        to: &Version,
        declared: Option<&Formats>,
        migrates: bool,
    ) -> Result<()> {
        self.is_at_rest(from, to)?;
        match self.unfinished() {
            // Who goes back from it, or comes back to do it, finds data in both formats.
            Some(migration) if to < from || migration.version == *to || migrates => {
                self.readable(from, to, declared).map_err(|e| e.because(migration.undone()))
            }
            Some(migration) => Err(migration.held_up()),
            None => self.readable(from, to, declared),
        }
    }

    /// What [`admits`](Self::admits) refuses a release for whatever it declares.
    ///
    /// # Errors
    /// Refused, telling how the migration stands.
    pub fn is_at_rest(&self, from: &Version, to: &Version) -> Result<()> {
        let holds_up = |migration: &&Migration| {
            migration.stage != Stage::Failed || from <= to && migration.version == *from
        };
        self.unfinished().filter(holds_up).map_or(Ok(()), |migration| Err(migration.held_up()))
    }

    fn readable(&self, from: &Version, release: &Version, declared: Option<&Formats>) -> Result<()> {
        let on_disk = self.possible();
        let is_below = |migration: &&Migration| release < from && *release < migration.version;
        let unsaid = self.obscuring().filter(is_below);
        let says = match declared {
            Some(Formats { reads, .. })
                if unsaid.is_none() && on_disk.iter().all(|format| reads.contains(format)) =>
            {
                return Ok(());
            }
            Some(Formats { reads, .. }) => format!("reads data {} only", named(reads)),
            // Who says nothing is trusted to know what was there before it, and with data that nobody has migrated since.
            None if self.migration.as_ref().filter(is_below).is_none() => return Ok(()),
            None => "does not say which data formats it reads".to_owned(),
        };
        let found = match unsaid {
            Some(Migration { version, to: None, .. }) => {
                format!("no manifest says to which format {version} migrates it")
            }
            Some(Migration { version, .. }) => {
                format!("no manifest says from which format {version} migrates it")
            }
            None => format!("{} on disk", are(&on_disk)),
        };
        Err(Error::refused(format!("release {release} cannot start on the data: it {says}, and {found}"))
            .hint(match from < release {
                true => format!(
                    "`tenure plan {release}` shows the way over releases that read it, where there is one"
                ),
                false => "go to a release that reads it; or restore a backup, and say so: \
                      `tenure migrate --restored FORMAT`"
                    .to_owned(),
            }))
    }

    /// What becomes of it once `to` is permanent in the place of `from`. A release that is gone up to without a program
    /// that migrates is believed to rewrite everything by itself; one that is gone down to is not, and writes its own
    /// format beside what is there.
    #[must_use]
    pub fn becomes(
        &self,
        from: Option<&Version>,
        to: &Version,
        declared: Option<&Formats>,
        migrates: bool,
    ) -> Becoming {
        let Some(from) = from else { return Becoming::Same };
        let writes = declared.map(|formats| formats.writes);
        let is_up = from < to;
        let differs = writes.map_or(is_up, |writes| !self.is_only(writes));
        if migrates && (differs || self.unfinished().is_some()) {
            return Becoming::Migrated(writes);
        }
        let formats = match writes {
            // Nobody but the one who migrates it brings all of it into one format then.
            Some(writes) if is_up && self.unfinished().is_none() => BTreeSet::from([writes]),
            // What was there is known, or nothing is.
            Some(writes) if !is_up && !self.formats.is_empty() => &self.formats | &BTreeSet::from([writes]),
            _ => self.formats.clone(),
        };
        // Where it is what the release says, the release tells it; with a migration the record does already.
        let is_told = || self.unfinished().is_some() || formats.iter().copied().eq(writes);
        if formats.is_empty() || formats == self.formats && is_told() {
            return Becoming::Same;
        }
        Becoming::Formats(formats)
    }
}

/// The formats of data that was migrated to this one; none where that is not said.
#[must_use]
pub fn migrated(to: Option<DataFormat>) -> BTreeSet<DataFormat> {
    to.into_iter().collect()
}

/// Names formats: `format 3`, `formats 2 and 3`, `no format`.
pub fn named<'a>(formats: impl IntoIterator<Item = &'a DataFormat>) -> String {
    let formats: Vec<String> = formats.into_iter().map(ToString::to_string).collect();
    match formats.as_slice() {
        [] => "no format".to_owned(),
        [one] => format!("format {one}"),
        [most @ .., last] => format!("formats {} and {last}", most.join(", ")),
    }
}

/// The same with its verb: `format 3 is`, `formats 2 and 3 are`.
#[must_use]
pub fn are(formats: &BTreeSet<DataFormat>) -> String {
    format!("{} {}", named(formats), if formats.len() > 1 { "are" } else { "is" })
}
