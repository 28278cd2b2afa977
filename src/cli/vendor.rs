//! Runs the commands for vendors, which need no root: `lint`, `pack` and `manifest`.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::Args;
use serde::Serialize;

use tenure::clock;
use tenure::error::{Error, Kind, Result};
use tenure::host_path;
use tenure::lint::Finding;
use tenure::manifest::EXAMPLE;
use tenure::naming::ArchiveFormat;
use tenure::ops::{self, Linted, Mode, Overwrite, Packed};
use tenure::process::Interrupt;
use tenure::verify::SigningKey;
use tenure::version::Version;

use super::args::Command;
use super::console::{Console, Shown};
use super::human::{Form, Human};

/// The arguments of `pack`.
#[derive(Debug, Args)]
pub struct PackArgs {
    /// The directory of the release
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// The archive to write, or its directory [default: the working directory]
    ///
    /// In a directory the archive is named NAME-VERSION.
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
    /// The signature is written beside the archive, with the extension .minisig.
    #[arg(long, value_name = "KEYFILE")]
    pub sign: Option<PathBuf>,

    /// Read the password of the key from this file instead of the terminal
    #[arg(long, value_name = "FILE", requires = "sign")]
    pub password_file: Option<PathBuf>,

    /// Overwrite a different archive of this name
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

/// Runs a command for vendors.
///
/// # Errors
/// Returns the errors of the command.
pub fn run(command: Command, console: &mut Console) -> Result<Shown> {
    let style = console.style();
    match command {
        Command::Lint { what } => Shown::of(style, &ops::lint(&what, console)?),
        Command::Pack(options) => pack(options, console),
        Command::Manifest { .. } => Shown::of(style, &Example { example: EXAMPLE }),
        _ => Err(Error::failed("this command needs a root")),
    }
}

fn pack(options: PackArgs, console: &mut Console) -> Result<Shown> {
    // All fields are named, so that a new option cannot be forgotten here.
    let PackArgs { dir, output, format, name, release, sign, password_file, force, dry_run } = options;
    let usage = |error: Error| error.as_kind(Kind::Usage);
    let time = source_date_epoch().map_err(usage)?;
    let version = release.map(|release| release.parse::<Version>().map_err(usage)).transpose()?;
    let password = || password(password_file.as_deref());
    let key = sign.map(|path| SigningKey::read(&path, &password)).transpose()?;
    console.listen(Interrupt::listen()?);
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
    Shown::of(console.style(), &ops::pack(&options, console)?)
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
            Error::refused("the key is protected by a password, and there is no terminal to ask for it")
                .because(e)
                .hint("`--password-file FILE` reads it from a file")
        });
    };
    let text = host_path::read_text(file, PASSWORD_MAX)?
        .ok_or_else(|| Error::refused(format!("cannot read {}: it does not exist", file.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The result of `manifest --example`.
#[derive(Serialize)]
struct Example {
    example: &'static str,
}

impl Human for Example {
    fn human(&self) -> String {
        self.example.to_owned()
    }
}

impl Human for Linted {
    const FORM: Form = Form::Prose;

    fn human(&self) -> String {
        let line = |Finding { code, place, message, hint }: &Finding| {
            let place = if place.is_empty() { &self.subject } else { place };
            format!("{place}: {message} [{}]\n  hint: {hint}\n", code.word())
        };
        let lines: String = self.findings.iter().map(line).collect();
        let subject = if self.subject == "." { "the working directory" } else { &self.subject };
        match self.findings.len() {
            0 => format!("No fault was found in {subject}.\n"),
            1 => format!("{lines}One fault was found in {subject}.\n"),
            count => format!("{lines}{count} faults were found in {subject}.\n"),
        }
    }

    fn code(&self) -> u8 {
        if self.findings.is_empty() { 0 } else { 2 }
    }
}

impl Human for Packed {
    fn human(&self) -> String {
        let Self { name, version, archive, entries, .. } = self;
        let whole = ByteSize(self.unpacked_bytes).display().iec();
        let archive = archive.escape_debug();
        let (Some(sha256), Some(bytes)) = (&self.sha256, self.bytes) else {
            let done = if self.changed { "Would pack" } else { "Already packed" };
            return format!(
                "{done} {name} {version}: {archive}, {entries} entries, {whole}\nNothing was changed.\n"
            );
        };
        let done = if self.changed { "Packed" } else { "Already packed" };
        let size = ByteSize(bytes).display().iec();
        let mut text = format!("{done} {name} {version}: {archive}, {entries} entries, {whole} in {size}\n");
        text += &format!("SHA-256: {sha256}\n");
        if let Some(signature) = &self.signature {
            text += &format!("Signed: {}\n", signature.escape_debug());
        }
        text
    }
}
