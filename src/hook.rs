//! Runs the programs of a release: chooses their user, their environment and the file for their output.

use std::fs::File;
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::fs::DirPath;
use crate::health::Argv;
use crate::manifest::{Hooks, Manifest};
use crate::privilege;
use crate::process::{self, Program, ProgramEnd};
use crate::progress::Progress;
use crate::root::Root;
use crate::version::Version;

/// The default time limit of a program.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The default time limit of a program with long work: to build a driver, or to copy the data.
const WORK_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The time limit of a program that may run until it is done: longer than any host is up.
const ENDLESS: Duration = Duration::from_secs(100 * 366 * 86_400);

/// The purpose of a program of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Decide whether the service may move to the release.
    Check,
    /// Prepare the release.
    Prepare,
    /// Copy the data.
    Backup,
    /// Migrate the data.
    Migrate,
    /// Move the running service up to the release.
    HotUpgrade,
    /// Move the running service down from the release.
    HotDowngrade,
    /// Print the running version.
    RunningVersion,
}

impl Task {
    /// Returns the key of the task in the manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Prepare => "prepare",
            Self::Backup => "backup",
            Self::Migrate => "migrate",
            Self::HotUpgrade => "hot-upgrade",
            Self::HotDowngrade => "hot-downgrade",
            Self::RunningVersion => "running-version",
        }
    }

    fn argv(self, hooks: &Hooks) -> Option<&Argv> {
        match self {
            Self::Check => &hooks.check,
            Self::Prepare => &hooks.prepare,
            Self::Backup => &hooks.backup,
            Self::Migrate => &hooks.migrate,
            Self::HotUpgrade => &hooks.hot_upgrade,
            Self::HotDowngrade => &hooks.hot_downgrade,
            Self::RunningVersion => &hooks.running_version,
        }
        .as_ref()
    }
}

/// Returns the time limit of a program: that of the settings, or else that of its release, or else the default.
#[must_use]
pub fn timeout(root: &Root, manifest: Option<&Manifest>, task: Task) -> Duration {
    let declared = manifest.map(|manifest| manifest.timeouts).unwrap_or_default();
    let timeouts = root.settings().timeouts.or(declared);
    let (said, otherwise) = match task {
        Task::Prepare => (timeouts.prepare, WORK_TIMEOUT),
        Task::Backup => (timeouts.backup, WORK_TIMEOUT),
        Task::Migrate => (timeouts.migrate, ENDLESS),
        _ => (timeouts.hook, TIMEOUT),
    };
    said.map_or(otherwise, |span| span.0)
}

/// The context of a hook, which it reads from its environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct HookContext<'a> {
    /// The action, such as `upgrade`, `downgrade`, `health` or `status`.
    pub action: &'a str,
    /// The release to move from.
    pub old: Option<&'a Version>,
    /// The release to move to.
    pub new: Option<&'a Version>,
    /// The transaction, if there is one.
    pub transaction: Option<&'a str>,
    /// The deadline of the trial that begins, in RFC 3339.
    pub deadline: Option<&'a str>,
    /// The directory of the new release while it is not yet published.
    pub staged: Option<&'a DirPath>,
}

impl HookContext<'_> {
    fn dir(&self, root: &Root, version: &Version) -> DirPath {
        let staged = self.staged.filter(|_| self.new == Some(version));
        staged.cloned().unwrap_or_else(|| root.release(version))
    }
}

/// A program of a release.
pub struct Hook<'a> {
    /// The root of the release.
    pub root: &'a Root,
    /// The release that contains the program.
    pub release: Version,
    /// The key of the program in the manifest or the settings.
    pub name: &'static str,
    /// The program and its arguments.
    pub argv: Argv,
    /// How long the program may run.
    pub within: Duration,
}

impl<'a> Hook<'a> {
    /// Returns the program of a release for a task; `None` if the manifest does not declare one.
    #[must_use]
    pub fn of(root: &'a Root, manifest: &Manifest, task: Task) -> Option<Self> {
        let argv = task.argv(&manifest.hooks)?.clone();
        let within = timeout(root, Some(manifest), task);
        Some(Self { root, release: manifest.version.clone(), name: task.name(), argv, within })
    }

    /// Returns the program of an installed release for a task that requires one.
    ///
    /// # Errors
    /// Returns a `Failed` error if the manifest does not declare the program, and a `Refused` error if the manifest
    /// cannot be used.
    pub fn needed(root: &'a Root, release: &Version, task: Task) -> Result<Self> {
        let manifest = root.manifest(release)?;
        let hook = manifest.and_then(|manifest| Self::of(root, &manifest, task));
        hook.ok_or_else(|| Error::failed(format!("release {release} has no {} hook", task.name())))
    }

    /// Runs the program with its output in a log file that is kept.
    ///
    /// # Errors
    /// Returns a `Failed` error if the program fails, with the end of its output and the path of the log.
    pub fn run_logged(&self, context: &HookContext<'_>, progress: &dyn Progress) -> Result<()> {
        let named = format!("{}-{}.log", context.transaction.unwrap_or("none"), self.name);
        let (log, place) = self.root.new_log(&named)?;
        self.run(context, &log, progress)?
            .good_or_said(self.within, &log)
            .map_err(|e| self.failed(e).hint(format!("its output is in {}", place.display())))
    }

    /// Runs the program and returns the end of its output.
    ///
    /// # Errors
    /// Returns a `Failed` error if the program fails, with the end of its output.
    pub fn ask(&self, context: &HookContext<'_>, progress: &dyn Progress) -> Result<String> {
        let said = process::output_in_memory()?;
        self.run(context, &said, progress)?.good_or_said(self.within, &said).map_err(|e| self.failed(e))?;
        Ok(process::tail(&said))
    }

    /// Runs the program and returns how it ended. The caller decides whether it succeeded.
    ///
    /// # Errors
    /// Returns an error if the program cannot be started, or on interruption.
    pub fn run(
        &self,
        context: &HookContext<'_>,
        output: &File,
        progress: &dyn Progress,
    ) -> Result<ProgramEnd> {
        let dir = context.dir(self.root, &self.release);
        let path = dir.path().join(self.argv.program());
        let program = Program {
            path: &path,
            arguments: self.argv.arguments(),
            dir: dir.path(),
            environment: &environment(self.root, context),
            account: Some(&privilege::of_release(self.root, dir.path(), &path)?),
            within: self.within,
            output,
        };
        process::run(&program, progress).context(|| self.cannot())
    }

    fn failed(&self, why: Error) -> Error {
        Error::failed(self.cannot()).because(why)
    }

    fn cannot(&self) -> String {
        format!("the {} program of {}, {}, failed", self.name, self.release, self.argv.program())
    }
}

fn environment(root: &Root, context: &HookContext<'_>) -> Vec<(&'static str, String)> {
    let HookContext { action, old, new, transaction, deadline, .. } = *context;
    let dir = |version: &Version| context.dir(root, version).path().display().to_string();
    let optional = [
        ("TENURE_OLD_VERSION", old.map(ToString::to_string)),
        ("TENURE_NEW_VERSION", new.map(ToString::to_string)),
        ("TENURE_OLD_DIR", old.map(dir)),
        ("TENURE_NEW_DIR", new.map(dir)),
        ("TENURE_TRANSACTION", transaction.map(str::to_owned)),
        ("TENURE_DEADLINE", deadline.map(str::to_owned)),
    ];
    let always = [("TENURE_ACTION", action.to_owned()), ("TENURE_ROOT", root.path().display().to_string())];
    always.into_iter().chain(optional.into_iter().filter_map(|(key, value)| Some((key, value?)))).collect()
}
