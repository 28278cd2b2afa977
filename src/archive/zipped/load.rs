//! How much data may wait in memory, over all entries.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The most that may wait, in bytes.
const WAITING_MAX: usize = 32 << 20;

/// Counts what waits.
#[derive(Clone, Default)]
pub struct Load(Arc<(Mutex<usize>, Condvar)>);

/// Part of an entry's data; it is counted until it is dropped.
pub struct Piece {
    bytes: Vec<u8>,
    load: Load,
}

impl Load {
    /// Counts a piece, once there is room for it.
    pub fn admit(&self, bytes: Vec<u8>) -> Piece {
        let (waiting, fewer) = &*self.0;
        let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |waiting: &mut usize| *waiting >= WAITING_MAX;
        *fewer.wait_while(waiting, full).unwrap_or_else(PoisonError::into_inner) += bytes.len();
        Piece { bytes, load: self.clone() }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let (waiting, fewer) = &*self.load.0;
        *waiting.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes.len();
        fewer.notify_one();
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
