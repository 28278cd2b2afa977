//! Runs a reader, such as a decompressor, on its own thread ahead of its consumer.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// The size of a piece, in bytes.
const PIECE: usize = 256 << 10;
/// The maximum number of pieces that wait to be read.
const AHEAD: usize = 8;

/// A buffer of fixed size, and the number of bytes filled.
#[derive(Default)]
struct Piece {
    buffer: Vec<u8>,
    filled: usize,
}

/// The reading end of the pipe.
pub struct Pipe {
    full: Receiver<io::Result<Piece>>,
    /// Used buffers return to the thread.
    spent: SyncSender<Vec<u8>>,
    piece: Piece,
    at: usize,
}

impl Pipe {
    /// Starts to read ahead. The thread ends with `reader`, at its first error, or when the pipe is dropped.
    pub fn new<'scope>(scope: &'scope Scope<'scope, '_>, mut reader: Box<dyn Read + Send + 'scope>) -> Self {
        let (filled, full) = sync_channel(AHEAD);
        let (spent, empty) = sync_channel::<Vec<u8>>(AHEAD + 1);
        scope.spawn(move || {
            loop {
                let buffer = empty.try_recv().unwrap_or_else(|_| vec![0; PIECE]);
                let (piece, error) = fill(&mut *reader, buffer);
                let last = piece.filled < PIECE;
                if filled.send(Ok(piece)).is_err() {
                    break;
                }
                if let Some(error) = error {
                    // The consumer may have dropped the pipe.
                    let _ = filled.send(Err(error));
                }
                if last {
                    break;
                }
            }
        });
        Self { full, spent, piece: Piece::default(), at: 0 }
    }
}

/// Fills a buffer. Only the last buffer, or the buffer before an error, is not full.
fn fill(reader: &mut dyn Read, mut buffer: Vec<u8>) -> (Piece, Option<io::Error>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (Piece { buffer, filled }, Some(e)),
        }
    }
    (Piece { buffer, filled }, None)
}

impl BufRead for Pipe {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.piece.filled {
            // The thread closes the channel after its last piece.
            let Ok(next) = self.full.recv() else { return Ok(&[]) };
            let spent = std::mem::replace(&mut self.piece, next?).buffer;
            // If the channel is full, the thread allocates a new buffer.
            let _ = if spent.is_empty() { Ok(()) } else { self.spent.try_send(spent) };
            self.at = 0;
        }
        Ok(&self.piece.buffer[self.at..self.piece.filled])
    }

    fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.piece.filled);
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.fill_buf()?;
        let n = bytes.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}
