//! Bounds the memory for data that waits to be unpacked and written, and reuses its buffers.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The size of the waiting data at which [`BufferPool::admit`] blocks, in bytes.
const WAITING_MAX: usize = 16 << 20;
/// The maximum number of buffers that are kept for reuse.
const SPARE_MAX: usize = 64;

/// A pool of buffers that counts the bytes of the waiting chunks.
#[derive(Clone, Default)]
pub struct BufferPool(Arc<(Mutex<PoolState>, Condvar)>);

#[derive(Default)]
struct PoolState {
    waiting: usize,
    spare: Vec<Vec<u8>>,
}

/// Waiting data, which is counted until it is dropped.
pub struct Chunk {
    bytes: Vec<u8>,
    pool: BufferPool,
}

impl BufferPool {
    /// Returns an empty buffer, reused if possible: allocation costs more than processing the data.
    pub fn buffer(&self) -> Vec<u8> {
        self.lock().spare.pop().unwrap_or_default()
    }

    /// Waits until the pool has room for a chunk, then counts it.
    pub fn admit(&self, bytes: Vec<u8>) -> Chunk {
        let full = |state: &mut PoolState| state.waiting >= WAITING_MAX;
        let state = self.0.1.wait_while(self.lock(), full);
        state.unwrap_or_else(PoisonError::into_inner).waiting += bytes.len();
        Chunk { bytes, pool: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        let mut state = self.pool.lock();
        state.waiting -= bytes.len();
        if state.spare.len() < SPARE_MAX {
            bytes.clear();
            state.spare.push(bytes);
        }
        drop(state);
        self.pool.0.1.notify_one();
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
