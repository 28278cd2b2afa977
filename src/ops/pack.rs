//! `pack`: creates an archive that every Tenure can unpack, with a digest and a signature.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::archive::{self, Archive, Recipe, Whole};
use crate::error::{Context, Error, Result};
use crate::execute::Reporter;
use crate::fs::{self as disk, DirPath, FileKind, Origin, TempFile};
use crate::host_path;
use crate::lint::{Code, Finding};
use crate::manifest::{MANIFEST, Manifest};
use crate::naming::{self, ArchiveFormat, DIGEST, SIGNATURE};
use crate::progress::Count;
use crate::settings;
use crate::verify::{self, SigningKey};
use crate::version::Version;

use super::lint::{TOP, unlimited};
use super::session::Mode;

/// The default time of the entries: the earliest time that a zip can store, 1980-01-01.
const TIME: u64 = 315_532_800;

const LINT: &str = "run `tenure lint DIR` to see all faults";
/// The largest digest or signature that is read, in bytes.
const SMALL: u64 = 1 << 16;

/// Whether to replace a different archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// `--force`.
    Yes,
    /// Only an identical archive may exist.
    No,
}

/// The options of `pack`.
pub struct Pack<'a> {
    /// The directory to pack.
    pub dir: PathBuf,
    /// The path of the archive, or the directory to create it in; by default the working directory.
    pub output: PathBuf,
    /// The format; by default that of the file name, or else .tar.zst.
    pub format: Option<ArchiveFormat>,
    /// The product, if there is no manifest.
    pub name: Option<String>,
    /// The version, if there is no manifest.
    pub version: Option<Version>,
    /// The time of every entry, in seconds since the epoch.
    pub time: Option<u64>,
    /// The key to sign with, and the time of the signature in seconds since the epoch.
    pub sign: Option<(&'a SigningKey, u64)>,
    /// Whether to replace a different archive.
    pub overwrite: Overwrite,
    /// Whether to act.
    pub mode: Mode,
}

/// The result of `pack`.
#[derive(Clone, Debug, Serialize)]
pub struct Packed {
    /// The product.
    pub name: String,
    /// The version.
    pub version: Version,
    /// The path of the archive.
    pub archive: String,
    /// Its SHA-256 in hex; `None` in a dry run.
    pub sha256: Option<String>,
    /// Its length in bytes; `None` in a dry run.
    pub bytes: Option<u64>,
    /// The number of files, directories and links.
    pub entries: u64,
    /// The total size of the files in bytes.
    pub unpacked_bytes: u64,
    /// The path of the signature, if it is signed.
    pub signature: Option<String>,
    /// Whether no identical archive existed before.
    pub changed: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
}

/// Packs a directory. The archive is read back by the rules of unpacking, and then published atomically.
///
/// # Errors
/// Returns a `Refused` error if the directory has contents that no release may have, if the release is unknown, or if
/// a different archive exists. Returns a `Failed` error if a file cannot be read or written. No partial file remains.
pub fn pack(options: &Pack<'_>, reporter: &mut dyn Reporter) -> Result<Packed> {
    let from = disk::resolve(&options.dir)?;
    if !host_path::is_dir(&from) {
        return Err(Error::refused(format!("cannot pack {}: it is not a directory", options.dir.display())));
    }
    let whole = fit(&from, reporter)?;
    let (name, version) = release(options, whole.survey.manifest.as_deref())?;
    let by = if whole.survey.manifest.is_some() { MANIFEST } else { "the options" };
    reporter.checked("release", &format!("{name} {version}, by {by}"));
    let target = ArchivePath::find(options, &from, &name, &version)?;
    // Only a new archive shows whether the existing one is identical.
    let made = if target.is_taken()? || options.mode == Mode::Act {
        let top = format!("{name}-{version}");
        let recipe = Recipe { format: target.format, top: &top, time: options.time.unwrap_or(TIME) };
        Some(target.make(options, &from, recipe, &whole, reporter)?)
    } else {
        None
    };
    let changed = made.as_ref().is_none_or(|made| made.changed);
    let kept = made.filter(|_| options.mode == Mode::Act);
    let signature = options.sign.map(|_| target.shown(SIGNATURE));
    Ok(Packed {
        name,
        version,
        archive: target.shown(""),
        entries: whole.survey.entries(),
        unpacked_bytes: whole.survey.bytes(),
        signature,
        changed,
        dry_run: kept.is_none(),
        bytes: kept.as_ref().map(|made| made.bytes),
        sha256: kept.map(|made| made.sha256),
    })
}

/// Checks the directory, and refuses contents that unpacking would refuse.
fn fit(from: &Path, reporter: &mut dyn Reporter) -> Result<Whole> {
    let looked = archive::lint_dir(from, TOP, &unlimited(), reporter)?;
    let (lost, faults): (Vec<Finding>, Vec<Finding>) =
        looked.findings.into_iter().partition(|finding| finding.code == Code::ModeLost);
    let told = |finding: &Finding| match finding.place.as_str() {
        "" => finding.message.clone(),
        place => format!("{place} {}", finding.message),
    };
    match (looked.whole, faults.first()) {
        (Some(whole), None) => {
            lost.iter().for_each(|finding| reporter.warn(&told(finding)));
            let (entries, bytes) = (whole.survey.entries(), whole.survey.bytes());
            let found = format!("all entries pass the unpacking rules: {entries} entries with {bytes} bytes");
            reporter.checked("directory", &found);
            Ok(whole)
        }
        (_, first) => {
            let (more, hint) = match (faults.len(), first) {
                (..2, Some(only)) => (String::new(), only.hint.as_str()),
                (count, _) => (format!(", and {} more", count.saturating_sub(1)), LINT),
            };
            let why = first.map_or_else(String::new, told);
            Err(Error::refused(format!("cannot pack {}: {why}{more}", from.display())).hint(hint))
        }
    }
}

/// Returns the name and version of the release, from its manifest or else from the options.
fn release(options: &Pack<'_>, manifest: Option<&str>) -> Result<(String, Version)> {
    let file = options.dir.join(MANIFEST);
    let parse = |text| Manifest::parse(&file.display().to_string(), text).map_err(|e| e.hint(LINT));
    let manifest = manifest.map(parse).transpose()?;
    let (declared, of) = manifest.map(|manifest| (manifest.name, manifest.version)).unzip();
    let differs = |what: &str| {
        Err(Error::refused(format!("{} declares another {what}", file.display()))
            .hint("remove the option, or correct the manifest"))
    };
    if options.name.is_some() && declared.is_some() && options.name != declared {
        return differs("name");
    }
    if options.version.is_some() && of.is_some() && options.version != of {
        return differs("version");
    }
    match (declared.or_else(|| options.name.clone()), of.or_else(|| options.version.clone())) {
        (Some(name), Some(version)) => settings::check_product(&name).map(|()| (name, version)),
        _ => Err(Error::refused(format!("cannot determine which release {} is", options.dir.display()))
            .hint(format!("add a {MANIFEST}, or use `--name NAME --release VERSION`"))),
    }
}

struct ArchivePath {
    dir: DirPath,
    /// The directory as it was named.
    shown: PathBuf,
    file: String,
    format: ArchiveFormat,
}

struct Made {
    sha256: String,
    bytes: u64,
    changed: bool,
}

impl ArchivePath {
    fn find(options: &Pack<'_>, from: &Path, name: &str, version: &Version) -> Result<Self> {
        let output = &options.output;
        let named =
            output.file_name().and_then(|file| file.to_str()).filter(|_| !host_path::leads_to_dir(output));
        let (shown, file, format) = match named {
            None => {
                let format = options.format.unwrap_or(ArchiveFormat::TarZst);
                (output.clone(), format!("{name}-{version}{}", format.ending()), format)
            }
            Some(file) => {
                let dir = output.parent().map(Path::to_owned).unwrap_or_default();
                (dir, file.to_owned(), format_of(file, options.format)?)
            }
        };
        naming::check(&file, name, version)?;
        let dir = if shown.as_os_str().is_empty() { Path::new(".") } else { &shown };
        let (dir, path) = host_path::open_dir(dir)?;
        if path.starts_with(from) {
            return Err(Error::refused(format!("{} is in the directory that is packed", path.display()))
                .hint("put it elsewhere: `--output DIR`"));
        }
        Ok(Self { dir: DirPath::of(dir, path), shown, file, format })
    }

    /// Returns whether a file has one of the names. Refuses links and directories.
    fn is_taken(&self) -> Result<bool> {
        let mut taken = false;
        for ending in ["", DIGEST, SIGNATURE] {
            let what = match disk::standing(&self.place(ending))? {
                FileKind::Nothing => continue,
                FileKind::File => {
                    taken = true;
                    continue;
                }
                FileKind::Link(_) => "a link",
                FileKind::Directory => "a directory",
            };
            let name = self.shown(ending);
            return Err(Error::refused(format!("{name} exists already and is {what}"))
                .hint("remove it, or put the archive elsewhere: `--output`"));
        }
        Ok(taken)
    }

    /// Packs, reads back and, unless this is a dry run, publishes.
    fn make(
        &self,
        options: &Pack<'_>,
        from: &Path,
        recipe: Recipe<'_>,
        whole: &Whole,
        reporter: &mut dyn Reporter,
    ) -> Result<Made> {
        let draft = TempFile::new(&self.dir)?;
        let total = whole.survey.bytes();
        reporter.packing(&self.shown(""));
        let packed = archive::pack(from, draft.file()?, recipe, &mut Count::new(reporter, total));
        // Report an interruption without the file that was being packed.
        reporter.go_on().context(|| format!("cannot pack {}", from.display()))?;
        let mut file = packed?;
        let bytes = file.metadata().context(|| "cannot inspect the archive")?.len();
        reporter.reading_back(&self.shown(""));
        let packed = Archive::of(draft.file()?, Path::new(&self.file), self.format)?;
        let reading = packed.survey(&unlimited(), &mut |_| {}, reporter)?;
        let same = reading.survey.entries() == whole.survey.entries() && reading.survey.bytes() == total;
        if !same || reading.survey.manifest != whole.survey.manifest {
            return Err(Error::failed(format!("{} was changed while it was packed", from.display())));
        }
        let sha256 = reading.sha256;
        let changed = self.sha256(reporter)?.as_ref() != Some(&sha256);
        let known = if changed { "which does not exist yet" } else { "which exists already" };
        reporter.checked("archive", &format!("its contents match the directory; SHA-256 {sha256}, {known}"));
        let mut beside = vec![(DIGEST, format!("{sha256}  {}\n", self.file))];
        if let Some((key, time)) = options.sign.filter(|(key, _)| changed || !self.is_signed(key, reporter)) {
            file.rewind().context(|| "cannot read the archive")?;
            beside.push((SIGNATURE, key.sign(&file, &self.file, time)?));
        }
        beside.retain(|(ending, text)| self.read(ending).as_ref() != Some(text));
        self.may_write(options.overwrite, changed, &beside)?;
        if options.mode == Mode::Act {
            self.publish(changed.then_some(draft), &beside)?;
        }
        Ok(Made { sha256, bytes, changed })
    }

    /// Refuses to replace different files, unless `overwrite` allows it.
    fn may_write(&self, overwrite: Overwrite, changed: bool, beside: &[(&str, String)]) -> Result<()> {
        // A signature of the old archive is not valid for the new one.
        let archive: &[&str] = if changed { &["", SIGNATURE] } else { &[] };
        let mut replaced = archive.iter().copied().chain(beside.iter().map(|(ending, _)| *ending));
        match replaced.find(|ending| disk::exists(&self.place(ending))) {
            Some(ending) if overwrite == Overwrite::No => {
                Err(Error::refused(format!("{} exists already and is different", self.shown(ending))).hint(
                    "`--force` replaces it; a release that was published should get a new version instead",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Writes the new files. A crash never leaves a digest or signature beside an archive that it does not match.
    fn publish(&self, draft: Option<TempFile>, beside: &[(&str, String)]) -> Result<()> {
        if let Some(draft) = draft {
            let stale = beside.iter().map(|(ending, _)| *ending).chain([SIGNATURE]);
            stale.into_iter().try_for_each(|ending| disk::remove_file_durable(&self.place(ending)))?;
            draft.publish(&self.place(""))?;
        }
        beside.iter().try_for_each(|(ending, text)| {
            let draft = TempFile::new(&self.dir)?;
            let cannot = || format!("cannot write {}", self.shown(ending));
            draft.file()?.write_all(text.as_bytes()).context(cannot)?;
            draft.publish(&self.place(ending))
        })
    }

    /// Returns the digest of the existing archive, if any.
    fn sha256(&self, reporter: &mut dyn Reporter) -> Result<Option<String>> {
        let place = self.place("");
        if !disk::exists(&place) {
            return Ok(None);
        }
        let there = Archive::of(disk::open_file(&place)?, place.path(), self.format)?;
        there.sha256(&mut |_| {}, reporter).map(Some)
    }

    /// Returns whether this key signed the existing archive, under this file name.
    fn is_signed(&self, key: &SigningKey, reporter: &mut dyn Reporter) -> bool {
        let (place, keys) = (self.place(""), [key.trusted().clone()]);
        let vouched = verify::verify_signature(&Origin::Inside(place.clone()), &keys, |also, _| {
            Archive::of(disk::open_file(&place)?, place.path(), self.format)?.sha256(also, reporter)
        });
        vouched
            .is_ok_and(|vouched| vouched.signed.is_ok_and(|signed| signed.name.as_ref() == Some(&self.file)))
    }

    /// Returns the digest or signature file; `None` if it cannot be read.
    fn read(&self, ending: &str) -> Option<String> {
        disk::read_text(&self.place(ending), SMALL).ok().flatten()
    }

    fn place(&self, ending: &str) -> DirPath {
        self.dir.join(format!("{}{ending}", self.file))
    }

    fn shown(&self, ending: &str) -> String {
        self.shown.join(format!("{}{ending}", self.file)).display().to_string()
    }
}

/// Returns the format of a file name. Refuses a format other than `wanted`, or one that `pack` cannot create.
fn format_of(file: &str, wanted: Option<ArchiveFormat>) -> Result<ArchiveFormat> {
    let format = ArchiveFormat::split(file).map(|(_, format)| format);
    match format.filter(|format| !matches!(format, ArchiveFormat::Tar | ArchiveFormat::TarXz)) {
        Some(format) if wanted.is_none_or(|wanted| wanted == format) => Ok(format),
        Some(_) => Err(Error::refused(format!("{file:?} does not match the requested format"))
            .hint("remove `--format`: the name determines the format")),
        None => Err(Error::refused(format!("{file:?} is not a name for an archive that `pack` creates"))
            .hint("a name ends in .tar.zst, .tar.gz or .zip; a directory must exist already")),
    }
}
