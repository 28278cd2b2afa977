//! A writer that stops after its first error, or when it is abandoned.

use std::cell::Cell;
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::rc::Rc;

/// A file that is being written. It returns its first error. It then discards all writes without an error, so that
/// the cleanup after the first error reports nothing.
pub struct FailFastWriter<W> {
    out: W,
    at: u64,
    end: u64,
    shut: Rc<Cell<bool>>,
}

/// Stops the writer when it is dropped.
pub struct FailFastGuard(Rc<Cell<bool>>);

impl<W> FailFastWriter<W> {
    /// Creates a writer to the empty `out` that writes until the guard is dropped.
    pub fn new(out: W) -> (Self, FailFastGuard) {
        let shut = Rc::new(Cell::new(false));
        (Self { out, at: 0, end: 0, shut: Rc::clone(&shut) }, FailFastGuard(shut))
    }

    /// Returns the underlying writer.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn unless_shut<T>(&mut self, act: impl FnOnce(&mut W) -> io::Result<T>, otherwise: T) -> io::Result<T> {
        if self.shut.get() {
            return Ok(otherwise);
        }
        let done = act(&mut self.out);
        self.shut.set(done.as_ref().is_err_and(|e| e.kind() != ErrorKind::Interrupted));
        done
    }
}

impl<W: Write> Write for FailFastWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.unless_shut(|out| out.write(bytes), bytes.len())?;
        self.at += n as u64;
        self.end = self.end.max(self.at);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_shut(Write::flush, ())
    }
}

impl<W: Seek> Seek for FailFastWriter<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let there = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
        };
        let there = there.ok_or(ErrorKind::InvalidInput)?;
        self.at = self.unless_shut(|out| out.seek(SeekFrom::Start(there)), there)?;
        Ok(self.at)
    }
}

impl Drop for FailFastGuard {
    fn drop(&mut self) {
        self.0.set(true);
    }
}
