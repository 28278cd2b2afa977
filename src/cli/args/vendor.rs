//! The commands for vendors, which need no root: `lint`, `pack` and `manifest`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use tenure::clock;
use tenure::error::{Error, Kind, Result};
use tenure::host_path;
use tenure::manifest::EXAMPLE;
use tenure::naming::ArchiveFormat;
use tenure::ops::{self, Mode, Overwrite};
use tenure::verify::SigningKey;

use crate::cli::caller::{Caller, parse_optional};
use crate::cli::console::Console;
use crate::cli::view::{Form, Shown};

/// The commands for vendors.
#[derive(Debug, Subcommand)]
pub enum Vendor {
    /// Report every problem of a release before it is published
    Lint(LintArgs),
    /// Create a reproducible archive and its .sha256
    Pack(PackArgs),
    /// Print an example of release.toml
    Manifest(ManifestArgs),
}

impl Vendor {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        match self {
            Self::Lint(args) => args.run(caller, console),
            Self::Pack(args) => args.run(caller, console),
            Self::Manifest(args) => args.run(caller),
        }
    }
}

/// The arguments of `pack`.
#[derive(Debug, Args)]
pub struct PackArgs {
    /// The directory of the release
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// The archive to write, or its directory [default: the working directory]
    ///
    /// The file name of an archive must contain this product and version. In a directory the archive is named
    /// NAME-VERSION.
    #[arg(long, value_name = "FILE|DIR")]
    pub output: Option<PathBuf>,

    /// The archive format [default: the extension of --output, or tar.zst]
    #[arg(long, value_enum)]
    pub format: Option<PackFormat>,

    /// The product's name, if the directory has no release.toml
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// The version, if the directory has no release.toml
    #[arg(long, value_name = "VERSION")]
    pub release: Option<String>,

    /// Sign the archive with this minisign secret key
    ///
    /// The signature covers the hash and the name of the archive. It is written beside the archive, with the extension
    /// .minisig. Signatures contain random bytes and differ each time; an existing good signature is kept.
    #[arg(long, value_name = "KEYFILE")]
    pub sign: Option<PathBuf>,

    /// Read the password of the key from this file instead of the terminal
    ///
    /// The password is the first line of the file.
    #[arg(long, value_name = "FILE", requires = "sign")]
    pub password_file: Option<PathBuf>,

    /// Overwrite a different archive of this name
    ///
    /// Its digest and its signature are overwritten as well.
    #[arg(long)]
    pub force: bool,

    /// Print what would be created and create nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// The kinds of archives that are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PackFormat {
    /// The smallest archive and the fastest to unpack
    #[value(name = "tar.zst")]
    TarZst,
    /// For old hosts and tools
    #[value(name = "tar.gz")]
    TarGz,
    /// For every operating system
    #[value(name = "zip")]
    Zip,
}

/// The maximum size of a password file, in bytes.
const PASSWORD_MAX: u64 = 1 << 12;

impl PackArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Returns the errors of `ops::pack`, and a `Usage` error if the version or SOURCE_DATE_EPOCH is not valid.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        // All fields are named, so that a new option cannot be forgotten here.
        let Self { dir, output, format, name, release, sign, password_file, force, dry_run } = self;
        let time = source_date_epoch().map_err(|error| error.as_kind(Kind::Usage))?;
        let version = parse_optional(release.as_deref())?;
        let password = || password(password_file.as_deref());
        let key = sign.map(|path| SigningKey::read(&path, &password)).transpose()?;
        console.listen()?;
        let options = ops::Pack {
            dir,
            output: output.unwrap_or_default(),
            format: format.map(|format| match format {
                PackFormat::TarZst => ArchiveFormat::TarZst,
                PackFormat::TarGz => ArchiveFormat::TarGz,
                PackFormat::Zip => ArchiveFormat::Zip,
            }),
            name,
            version,
            time,
            sign: key.as_ref().map(|key| (key, time.unwrap_or_else(clock::seconds))),
            overwrite: if force { Overwrite::Yes } else { Overwrite::No },
            mode: if dry_run { Mode::DryRun } else { Mode::Act },
        };
        caller.shown(&ops::pack(&options, console)?)
    }
}

/// The arguments of `lint`.
#[derive(Debug, Args)]
pub struct LintArgs {
    /// An archive, or the directory that an archive is made of
    #[arg(value_name = "ARCHIVE|DIR")]
    pub what: PathBuf,
}

impl LintArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Returns the errors of `ops::lint`.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        caller.shown(&ops::lint(&self.what, console)?)
    }
}

/// The arguments of `manifest`.
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// Print every key with an explanation
    #[arg(long, required = true)]
    pub example: bool,
}

impl ManifestArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Returns an error if the result cannot be serialized, which does not happen.
    pub fn run(self, caller: &Caller) -> Result<Shown> {
        let Self { example: _ } = self;
        Shown::text(caller.style, "example", EXAMPLE.to_owned(), Form::Lines)
    }
}

/// Returns the time for reproducible builds, or `None` if SOURCE_DATE_EPOCH is unset or empty.
fn source_date_epoch() -> Result<Option<u64>> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let time = text.to_str().and_then(|text| text.parse().ok());
    time.map(Some).ok_or_else(|| {
        Error::refused(format!(
            "SOURCE_DATE_EPOCH is {}, which is not a number of seconds since 1970",
            text.display()
        ))
        .hint("unset SOURCE_DATE_EPOCH, or set it to the output of `git log -1 --format=%ct`")
    })
}

/// Returns the password of the key: the first line of the file, or the user's input.
fn password(file: Option<&Path>) -> Result<String> {
    let Some(file) = file else {
        return rpassword::prompt_password("Password of the key: ").map_err(|e| {
            Error::refused(
                "the key is protected by a password, and this command has no terminal to ask for it",
            )
            .because(e)
            .hint("`--password-file FILE` reads it from a file")
        });
    };
    let text = host_path::read_text(file, PASSWORD_MAX)?
        .ok_or_else(|| Error::refused(format!("cannot read {}: it does not exist", file.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
