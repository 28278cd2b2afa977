//! Unpacks and writes files on worker threads, while another thread reads the archive in order.
//!
//! Small files are sent in batches: sending each one by itself would cost as much as writing it. The memory for data that
//! waits is bounded, and its buffers are reused.

use std::io::{self, BufRead};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use blake3::Hasher;
use flate2::Crc;

use super::extractor::Extractor;
use super::input::{ProgressMeter, damaged_entry};
use super::unpack::{Inflater, PackedData, PendingFile, WrittenFile};
use crate::error::{Error, Result};
use crate::tree::Sum;

/// The maximum number of batches that wait.
const QUEUE: usize = 128;
/// The size at which a batch is sent, and the size of a piece of a larger file, in bytes.
pub const BATCH: usize = 256 << 10;
/// The maximum number of files in a batch.
const FILES: usize = 128;

/// The size of the waiting data at which [`BufferPool::admit`] blocks, in bytes.
const WAITING_MAX: usize = 16 << 20;
/// The maximum number of buffers that are kept for reuse.
const SPARE_MAX: usize = 64;

/// A file and the form of its data in the archive.
struct FileJob {
    body: PendingFile,
    packed: PackedData,
}

/// A job for a worker thread.
enum WorkerJob {
    /// Files whose data is complete, each with the range of its data.
    Small(Vec<(FileJob, Range<usize>)>, Chunk),
    /// One deflated file, whose data arrives in pieces.
    Large(Box<FileJob>, Receiver<Chunk>),
}

/// The worker threads and their queue, and the state of the thread that reads.
pub struct Workers<'w, 'a> {
    /// Admits the entries, and receives the files when they are done.
    pub extractor: &'w mut Extractor<'a>,
    /// Reports the bytes read.
    pub meter: &'w mut ProgressMeter<'a>,
    queue: SyncSender<WorkerJob>,
    done: Receiver<Result<Vec<WrittenFile>>>,
    /// The number of jobs that are not finished.
    waiting: usize,
    /// Whether the failure of one of them was returned.
    has_failed: bool,
    pool: BufferPool,
    /// The batch that is being filled.
    files: Vec<(FileJob, Range<usize>)>,
    data: Vec<u8>,
}

impl<'w, 'a> Workers<'w, 'a> {
    /// Starts the threads. They end when this value is dropped.
    pub fn new<'scope>(
        scope: &'scope Scope<'scope, '_>,
        threads: usize,
        extractor: &'w mut Extractor<'a>,
        meter: &'w mut ProgressMeter<'a>,
    ) -> Self {
        let (queue, work) = sync_channel(QUEUE);
        let work = Arc::new(Mutex::new(work));
        let (finished, done) = channel();
        for _ in 0..threads {
            let (work, finished) = (Arc::clone(&work), finished.clone());
            scope.spawn(move || run(&work, &finished));
        }
        Self {
            extractor,
            meter,
            queue,
            done,
            waiting: 0,
            has_failed: false,
            pool: BufferPool::default(),
            files: Vec::new(),
            data: Vec::new(),
        }
    }

    /// Accepts a file whose data is next in the reader.
    ///
    /// # Errors
    /// Returns an error if the data is truncated, if this or an earlier file failed, or on interruption.
    pub fn file(&mut self, body: PendingFile, packed: PackedData, reader: &mut dyn BufRead) -> Result<()> {
        if packed.length > BATCH as u64 {
            self.hand_over()?;
            if !packed.deflated {
                return self.plain(body, packed, reader);
            }
            return self.large(FileJob { body, packed }, reader);
        }
        let job = FileJob { body, packed };
        let start = self.data.len();
        take(&job.body.path, reader, packed.length, self.meter, &mut append(&mut self.data))?;
        self.files.push((job, start..self.data.len()));
        if self.data.len() >= BATCH || self.files.len() == FILES { self.hand_over() } else { Ok(()) }
    }

    /// Waits until all files are done. A file whose data ends early is dropped: the caller already has the error.
    ///
    /// # Errors
    /// Returns an error if a file failed.
    pub fn finish(mut self) -> Result<()> {
        // The cause was returned already, and the thread that failed leaves the rest undone.
        if self.has_failed {
            return Ok(());
        }
        self.hand_over()?;
        drop(self.queue);
        for _ in 0..self.waiting {
            let written = self.done.recv().map_err(|_| Error::failed("an unpacking thread has ended"))?;
            written?.into_iter().for_each(|written| self.extractor.put(written));
        }
        Ok(())
    }

    /// Sends the batch, and collects finished files.
    fn hand_over(&mut self) -> Result<()> {
        if !self.files.is_empty() {
            let files = std::mem::take(&mut self.files);
            let data = std::mem::replace(&mut self.data, self.pool.buffer());
            let data = self.pool.admit(data);
            self.send(WorkerJob::Small(files, data));
        }
        while let Ok(written) = self.done.try_recv() {
            self.waiting -= 1;
            self.has_failed |= written.is_err();
            written?.into_iter().for_each(|written| self.extractor.put(written));
        }
        Ok(())
    }

    fn large(&mut self, job: FileJob, reader: &mut dyn BufRead) -> Result<()> {
        let (path, length) = (job.body.path.clone(), job.packed.length);
        let known = job.packed.ahead.zip(job.body.base.as_ref());
        if let Some((ahead, sum)) = known.and_then(|(ahead, base)| Some((ahead, base.unpacked(&ahead)?)))
            && let Some(written) = job.body.share(sum)?
        {
            let mut hash = job.packed.hasher();
            take(&path, reader, length, self.meter, &mut |bytes| {
                hash.update(bytes);
                Ok(())
            })?;
            let packed = Some(Sum::of(&hash)).filter(|sum| *sum == ahead);
            let packed = Some(packed.ok_or_else(|| Error::failed("the archive was changed"))?);
            self.extractor.put(WrittenFile { packed, ..written });
            return Ok(());
        }
        let (sender, pieces) = channel();
        self.send(WorkerJob::Large(Box::new(job), pieces));
        let mut left = length;
        while left > 0 {
            let next = left.min(BATCH as u64);
            let mut piece = self.pool.buffer();
            take(&path, reader, next, self.meter, &mut append(&mut piece))?;
            left -= next;
            // If sending fails, the worker has failed and reports its error.
            let _ = sender.send(self.pool.admit(piece));
        }
        Ok(())
    }

    /// Writes a large stored file on the reading thread: it needs no unpacking, so a worker saves no time.
    fn plain(&mut self, body: PendingFile, packed: PackedData, reader: &mut dyn BufRead) -> Result<()> {
        let path = body.path.clone();
        let (mut file, mut crc) = (body.open_over(packed.size)?, Crc::new());
        take(&path, reader, packed.length, self.meter, &mut |bytes| {
            if packed.crc.is_some() {
                crc.update(bytes);
            }
            file.write(bytes)
        })?;
        packed.check(path.as_bytes(), crc.sum())?;
        file.close().map(|written| self.extractor.put(written))
    }

    fn send(&mut self, work: WorkerJob) {
        self.waiting += 1;
        // As above.
        let _ = self.queue.send(work);
    }
}

fn append(to: &mut Vec<u8>) -> impl FnMut(&[u8]) -> Result<()> {
    |bytes| {
        to.extend_from_slice(bytes);
        Ok(())
    }
}

/// Passes the next `length` bytes of the reader to `to`.
fn take(
    path: &str,
    reader: &mut dyn BufRead,
    length: u64,
    meter: &mut ProgressMeter<'_>,
    to: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut left = length;
    while left > 0 {
        meter.tick()?;
        let bytes = reader.fill_buf().map_err(|e| damaged_entry(path.as_bytes(), e))?;
        if bytes.is_empty() {
            return Err(damaged_entry(path.as_bytes(), io::ErrorKind::UnexpectedEof.into()));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        to(&bytes[..most])?;
        reader.consume(most);
        left -= most as u64;
    }
    Ok(())
}

fn run(queue: &Mutex<Receiver<WorkerJob>>, finished: &Sender<Result<Vec<WrittenFile>>>) {
    let (mut inflater, pool) = (Inflater::default(), BufferPool::default());
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        let written = match work {
            WorkerJob::Small(files, data) => small(files, data.as_ref(), &mut inflater),
            WorkerJob::Large(job, pieces) => large(*job, pieces, &mut inflater, &pool),
        };
        let failed = written.is_err();
        if finished.send(written).is_err() || failed {
            return;
        }
    }
}

fn small(
    files: Vec<(FileJob, Range<usize>)>,
    data: &[u8],
    inflater: &mut Inflater,
) -> Result<Vec<WrittenFile>> {
    let fill = |(job, range): (FileJob, Range<usize>)| {
        let (data, deflated) = (&data[range], job.packed.deflated);
        let packed = deflated.then(|| job.packed.digest(data));
        // Stored data is hashed directly, and only if the file may be shared.
        let known = job.body.base.as_ref().and_then(|base| match &packed {
            Some(packed) => base.unpacked(packed),
            None => Some(Sum::of(Hasher::new().update(data))),
        });
        let shared = known.map(|sum| job.body.share(sum)).transpose()?.flatten();
        let written = match shared {
            Some(written) => written,
            None => fill(job, &mut std::iter::once(data), inflater)?,
        };
        Ok(WrittenFile { packed, ..written })
    };
    files.into_iter().map(fill).collect()
}

/// Returns no file if the data ends before it is complete.
fn large(
    job: FileJob,
    pieces: Receiver<Chunk>,
    inflater: &mut Inflater,
    pool: &BufferPool,
) -> Result<Vec<WrittenFile>> {
    // The number of bytes still to come, and the digest of the received bytes.
    let seen = &Mutex::new((job.packed.length, job.packed.hasher()));
    let seen = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = pieces.into_iter().inspect(|piece| {
        let mut seen = seen();
        seen.0 -= piece.as_ref().len() as u64;
        seen.1.update(piece.as_ref());
    });
    let written = fill_ahead(job, &mut all, inflater, pool);
    // If more pieces follow, the file failed by itself and not because the reading ended.
    let left = seen().0;
    let given_up = written.is_err() && left > 0 && all.next().is_none();
    let packed = Some(Sum::of(&seen().1));
    if given_up { Ok(Vec::new()) } else { written.map(|written| vec![WrittenFile { packed, ..written }]) }
}

/// Inflates on an additional thread, so that one large file keeps two threads busy.
fn fill_ahead(
    job: FileJob,
    pieces: &mut (dyn Iterator<Item = Chunk> + Send),
    inflater: &mut Inflater,
    pool: &BufferPool,
) -> Result<WrittenFile> {
    let FileJob { body, packed } = job;
    let name = body.path.clone();
    let gone = || Error::failed("an unpacking thread has ended");
    thread::scope(|scope| {
        let (sender, inflated) = channel();
        let inflating = scope.spawn(move || {
            inflater.inflate(name.as_bytes(), packed, pieces, &mut |bytes| {
                let mut buffer = pool.buffer();
                buffer.extend_from_slice(bytes);
                sender.send(pool.admit(buffer)).map_err(|_| gone())
            })
        });
        let mut file = body.open()?;
        inflated.into_iter().try_for_each(|piece| file.write(piece.as_ref()))?;
        inflating.join().unwrap_or_else(|_| Err(gone()))?;
        file.close()
    })
}

fn fill(
    job: FileJob,
    pieces: &mut dyn Iterator<Item = impl AsRef<[u8]>>,
    inflater: &mut Inflater,
) -> Result<WrittenFile> {
    let FileJob { body, packed } = job;
    let name = body.path.clone();
    let mut file = body.open()?;
    inflater.inflate(name.as_bytes(), packed, pieces, &mut |bytes| file.write(bytes))?;
    file.close()
}

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
