//! Changes to the disk, each named by what it guarantees: *atomic* is old or new, *durable* survives a power cut.

mod purge;
mod space;

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use nix::unistd::{Gid, Uid};

pub use purge::purge;
pub use space::{Free, free, size, weigh};

use crate::error::{Doing, Error, Result};
use crate::tree::Owner;

/// The process's effective user id.
#[must_use]
pub fn effective_uid() -> u32 {
    Uid::effective().as_raw()
}

/// The user and group that this process's new files belong to.
#[must_use]
pub fn effective_owner() -> Owner {
    Owner { uid: effective_uid(), gid: Gid::effective().as_raw() }
}

/// Who owns a file, without following a link.
///
/// # Errors
/// Where it cannot be looked at.
pub fn owner(path: &Path) -> Result<Owner> {
    let meta = fs::symlink_metadata(path).doing(|| format!("cannot look at {}", path.display()))?;
    Ok(Owner { uid: meta.uid(), gid: meta.gid() })
}

/// Gives a file to `owner`, where it is another's; links are not followed.
///
/// # Errors
/// Where the system refuses.
pub fn give(path: &Path, to: Owner) -> Result<()> {
    let now = owner(path)?;
    if (now.uid, now.gid) == (to.uid, to.gid) {
        return Ok(());
    }
    let (uid, gid) = (Some(Uid::from_raw(to.uid)), Some(Gid::from_raw(to.gid)));
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    nix::unistd::fchownat(AT_FDCWD, path, uid, gid, flags)
        .doing(|| format!("cannot give {} its owner", path.display()))
}

/// Makes a directory of the given mode and owner, unless it is there.
///
/// # Errors
/// Where it cannot be made, or where something else stands in its place.
pub fn ensure_dir(path: &Path, mode: u32, owner: Owner) -> Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            // The umask may have taken bits away.
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .doing(|| format!("cannot set the mode of {}", path.display()))?;
            give(path, owner)
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists && is_dir(path) => Ok(()),
        Err(e) => Err(e).doing(|| format!("cannot make the directory {}", path.display())),
    }
}

/// Whether a directory is there, and not a link to one.
#[must_use]
pub fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_dir())
}

/// Whether anything is there, a dangling link included.
#[must_use]
pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The absolute path of something that is there, without links.
///
/// # Errors
/// Refused where nothing is there.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|e| Error::refused(format!("cannot find {}", path.display())).because(e))
}

/// Opens a directory.
///
/// # Errors
/// Where it cannot be opened, or is none, or is a link to one.
pub fn open_dir(path: &Path) -> Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .doing(|| format!("cannot open the directory {}", path.display()))
}

/// Opens a file for reading.
///
/// # Errors
/// Where it cannot be opened, or is a link.
pub fn open_file(path: &Path) -> Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    opened.doing(|| format!("cannot open {}", path.display()))
}

/// Makes the entries of a directory durable. A sync that failed is never tried again: what it would then
/// call durable may be lost already.
///
/// # Errors
/// Where the system reports one.
pub fn sync_dir(path: &Path) -> Result<()> {
    open_dir(path)?.sync_all().doing(|| format!("cannot make {} durable", path.display()))
}

/// Writes a file in place of another, atomically and durably, by way of the directory `staging` on the same
/// file system. A crash leaves the old one, and perhaps a temporary file in `staging`.
///
/// # Errors
/// Where any part of it fails; the old file is then still there.
pub fn write_durable(path: &Path, staging: &Path, bytes: &[u8], mode: u32, owner: Owner) -> Result<()> {
    let doing = || format!("cannot write {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(staging).doing(doing)?;
    file.write_all(bytes).doing(doing)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode)).doing(doing)?;
    give(file.path(), owner)?;
    file.as_file().sync_all().doing(doing)?;
    file.persist(path).map_err(|e| e.error).doing(doing)?;
    sync_dir(parent(path))
}

/// Writes a new file in a directory that nobody sees yet. Not durable: what publishes the directory is.
///
/// # Errors
/// Where it cannot be written, or is there already.
pub fn write_staged(
    path: &Path,
    owner: Owner,
    write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<()> {
    let doing = || format!("cannot write {}", path.display());
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).doing(doing)?;
    let mut out = BufWriter::new(file);
    write(&mut out).and_then(|()| out.flush()).doing(doing)?;
    give(path, owner)
}

/// Appends a line to a file, durably. A crash may leave a part of the line at the file's end, so a line
/// that is begun later starts on a line of its own.
///
/// # Errors
/// Where it cannot be written.
pub fn append_durable(path: &Path, line: &str, owner: Owner) -> Result<()> {
    let doing = || format!("cannot write {}", path.display());
    let options = || {
        OpenOptions::new().read(true).append(true).mode(0o644).custom_flags(OFlag::O_NOFOLLOW.bits()).clone()
    };
    let made = !exists(path);
    let mut file = options().create(true).open(path).doing(doing)?;
    let mut text = String::new();
    if !made && !ends_in_newline(&file).doing(doing)? {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
    file.write_all(text.as_bytes()).doing(doing)?;
    file.sync_data().doing(doing)?;
    if made {
        give(path, owner)?;
        sync_dir(parent(path))?;
    }
    Ok(())
}

fn ends_in_newline(file: &File) -> std::io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let len = file.metadata()?.len();
    let mut last = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    Ok(last == *b"\n")
}

/// Switches the symlink DIR/NAME to `target`, atomically and durably: no reader ever finds it missing. The
/// link that was there stays beside it, as [`spare_link`], so that switching back takes no room on the disk.
/// A crash leaves it old or new.
///
/// # Errors
/// Where it fails; the link is then old, or new and not yet durable.
pub fn switch_link(dir: &Path, name: &str, target: &Path, owner: Owner) -> Result<()> {
    let (link, spare) = (dir.join(name), spare_link(dir, name));
    let doing = || format!("cannot switch {}", link.display());
    let leads = |link: &Path| fs::read_link(link).is_ok_and(|to| to == target);
    if leads(&link) {
        return sync_dir(dir);
    }
    if !leads(&spare) {
        remove_file_durable(&spare)?;
        std::os::unix::fs::symlink(target, &spare).doing(doing)?;
        give(&spare, owner)?;
    }
    match renameat2(AT_FDCWD, &spare, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE) {
        // There was no link yet, or the file system cannot exchange.
        Err(Errno::ENOENT | Errno::EINVAL | Errno::ENOSYS) => fs::rename(&spare, &link).doing(doing)?,
        other => other.doing(doing)?,
    }
    sync_dir(dir)
}

/// Where a link waits for its switch, and the one that it replaced stays until it is swept.
#[must_use]
pub fn spare_link(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.spare"))
}

/// Removes the symlink DIR/NAME, durably; nothing to do where it is not there.
///
/// # Errors
/// Where it fails.
pub fn remove_link(dir: &Path, name: &str) -> Result<()> {
    remove_file_durable(&dir.join(name))
}

/// Removes a file or link, durably; nothing to do where it is not there.
///
/// # Errors
/// Where it fails.
pub fn remove_file_durable(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(parent(path)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).doing(|| format!("cannot remove {}", path.display())),
    }
}

/// Makes everything under `from` durable, by one sync of its whole file system.
///
/// # Errors
/// Where anything written since it was opened could not be stored (reported since Linux 5.8).
pub fn sync_tree(from: &Path) -> Result<()> {
    let dir = open_dir(from)?;
    nix::unistd::syncfs(dir.as_fd()).doing(|| format!("cannot make {} durable", from.display()))
}

/// Moves a directory or file to a name that must be free, atomically and durably. Of two movers of one name
/// one fails.
///
/// # Errors
/// Where the name is taken or the move fails.
pub fn move_durable(from: &Path, to: &Path) -> Result<()> {
    let doing = || format!("cannot move {} to {}", from.display(), to.display());
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // The file system knows no such flag: look first, under the lock that every writer holds.
        Err(Errno::EINVAL | Errno::ENOSYS) if !exists(to) => fs::rename(from, to).doing(doing)?,
        Err(Errno::EINVAL | Errno::ENOSYS) => return Err(Errno::EEXIST).doing(doing),
        Err(Errno::EACCES) if unlock(from) => {
            renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE).doing(doing)?;
        }
        other => other.doing(doing)?,
    }
    sync_dir(parent(to))?;
    if parent(from) != parent(to) {
        sync_dir(parent(from))?;
    }
    Ok(())
}

/// A directory that its owner may not write cannot change its parent.
fn unlock(dir: &Path) -> bool {
    is_dir(dir)
        && fs::symlink_metadata(dir)
            .and_then(|m| fs::set_permissions(dir, fs::Permissions::from_mode(m.mode() | 0o700)))
            .is_ok()
}

/// Moves a directory within what nobody sees yet. Not durable: what publishes it is.
///
/// # Errors
/// Where it cannot be moved.
pub fn move_staged(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).doing(|| format!("cannot move {} to {}", from.display(), to.display()))
}

/// Removes an empty directory; nothing to do where it is not there. Not durable.
///
/// # Errors
/// Where it fails.
pub fn remove_empty(dir: &Path) -> Result<()> {
    match fs::remove_dir(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).doing(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The names in a directory, sorted; none where it is not there.
///
/// # Errors
/// Where it cannot be read.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let doing = || format!("cannot read {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing(doing)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is no text is none that Tenure gave.
        names.extend(entry.doing(doing)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// The text of a small file; none where it is not there.
///
/// # Errors
/// Where it cannot be read, or is larger than `limit` bytes, or is no UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<Option<String>> {
    let doing = || format!("cannot read {}", path.display());
    let Some(bytes) = read_bytes(path, limit)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).doing(doing)
}

/// As [`read_text`], for what a power cut may have torn: what is no UTF-8 is replaced.
///
/// # Errors
/// Where it cannot be read, or is larger than `limit` bytes.
pub fn read_torn(path: &Path, limit: u64) -> Result<Option<String>> {
    Ok(read_bytes(path, limit)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The bytes of a small file; none where it is not there. It is opened once, so that it may be removed
/// meanwhile: a reader takes no lock.
///
/// # Errors
/// Where it cannot be read, or is larger than `limit` bytes.
pub fn read_bytes(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let doing = || format!("cannot read {}", path.display());
    // Opening a pipe would wait for a writer.
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let mut file = match opened {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.doing(doing)?,
    };
    let meta = file.metadata().doing(doing)?;
    if !meta.is_file() {
        return Err(Error::refused(format!("{}: it is no file", doing())));
    }
    if meta.len() > limit {
        return Err(Error::refused(format!("{}: it is larger than {limit} bytes", doing())));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).doing(doing)?;
    Ok(Some(bytes))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
