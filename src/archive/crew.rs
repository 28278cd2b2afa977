//! Unpacks and writes files on threads of their own, while another reads the archive in order.
//!
//! Small files are handed over in batches: one by one, that would cost as much as writing them.

use std::io::{self, BufRead};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope};

use blake3::Hasher;
use flate2::Crc;

use super::body::{Body, Filled};
use super::fault::damaged_entry;
use super::inflate::{Inflater, Packed};
use super::intake::Intake;
use super::load::{Load, Piece};
use super::meter::Meter;
use crate::error::{Error, Result};
use crate::tree::Sum;

/// How many batches may wait.
const QUEUE: usize = 128;
/// The data of a batch, or of one piece of a larger file, in bytes.
pub const BATCH: usize = 256 << 10;
/// The most files of a batch.
const FILES: usize = 128;

/// A file, and how its data stands in the archive.
struct Job {
    body: Body,
    packed: Packed,
}

/// What a thread is handed.
enum Work {
    /// Files whose data is at hand, each in its range.
    Small(Vec<(Job, Range<usize>)>, Piece),
    /// One deflated file, whose data arrives in pieces.
    Large(Box<Job>, Receiver<Piece>),
}

/// The threads, and what they have to do.
pub struct Crew {
    queue: SyncSender<Work>,
    done: Receiver<Result<Vec<Filled>>>,
    /// How much was handed over and is not done.
    waiting: usize,
    load: Load,
    /// The batch in the making.
    files: Vec<(Job, Range<usize>)>,
    data: Vec<u8>,
}

impl Crew {
    /// Starts so many threads; they end when the crew is dropped.
    pub fn new<'scope>(scope: &'scope Scope<'scope, '_>, threads: usize) -> Self {
        let (queue, work) = sync_channel(QUEUE);
        let work = Arc::new(Mutex::new(work));
        let (finished, done) = channel();
        for _ in 0..threads {
            let (work, finished) = (Arc::clone(&work), finished.clone());
            scope.spawn(move || run(&work, &finished));
        }
        Self { queue, done, waiting: 0, load: Load::default(), files: Vec::new(), data: Vec::new() }
    }

    /// Takes over a file, whose data is next in the reader.
    ///
    /// # Errors
    /// When the data is cut short, when an earlier file failed, or on interruption.
    pub fn file(
        &mut self,
        body: Body,
        packed: Packed,
        reader: &mut dyn BufRead,
        meter: &mut Meter<'_>,
        intake: &mut Intake<'_>,
    ) -> Result<()> {
        if packed.length > BATCH as u64 {
            self.hand_over(intake)?;
            if !packed.deflated {
                return plain(body, packed, reader, meter).map(|filled| intake.put(filled));
            }
            return self.large(Job { body, packed }, reader, meter, intake);
        }
        let job = Job { body, packed };
        let start = self.data.len();
        take(&job.body.path, reader, packed.length, meter, &mut append(&mut self.data))?;
        self.files.push((job, start..self.data.len()));
        if self.data.len() >= BATCH || self.files.len() == FILES { self.hand_over(intake) } else { Ok(()) }
    }

    /// Waits until all are done. A file whose data ends early is dropped: whoever handed it over knows why.
    ///
    /// # Errors
    /// When one of them failed.
    pub fn finish(mut self, intake: &mut Intake<'_>) -> Result<()> {
        self.hand_over(intake)?;
        drop(self.queue);
        for _ in 0..self.waiting {
            let filled = self.done.recv().map_err(|_| Error::failed("a thread that unpacks is gone"))?;
            filled?.into_iter().for_each(|filled| intake.put(filled));
        }
        Ok(())
    }

    /// Hands the batch over, and takes what is done.
    fn hand_over(&mut self, intake: &mut Intake<'_>) -> Result<()> {
        if !self.files.is_empty() {
            let files = std::mem::take(&mut self.files);
            let data = std::mem::replace(&mut self.data, self.load.buffer());
            let data = self.load.admit(data);
            self.send(Work::Small(files, data));
        }
        while let Ok(filled) = self.done.try_recv() {
            self.waiting -= 1;
            filled?.into_iter().for_each(|filled| intake.put(filled));
        }
        Ok(())
    }

    fn large(
        &mut self,
        job: Job,
        reader: &mut dyn BufRead,
        meter: &mut Meter<'_>,
        intake: &mut Intake<'_>,
    ) -> Result<()> {
        let (path, length) = (job.body.path.clone(), job.packed.length);
        let known = job.packed.ahead.zip(job.body.twins());
        if let Some((ahead, sum)) = known.and_then(|(ahead, twins)| Some((ahead, twins.unpacked(&ahead)?)))
            && let Some(filled) = job.body.share(sum)?
        {
            let mut hash = job.packed.hasher();
            take(&path, reader, length, meter, &mut |bytes| {
                hash.update(bytes);
                Ok(())
            })?;
            let packed = Some(Sum::of(&hash)).filter(|sum| *sum == ahead);
            let packed = Some(packed.ok_or_else(|| Error::failed("the archive was changed"))?);
            intake.put(Filled { packed, ..filled });
            return Ok(());
        }
        let (sender, pieces) = channel();
        self.send(Work::Large(Box::new(job), pieces));
        let mut left = length;
        while left > 0 {
            let next = left.min(BATCH as u64);
            let mut piece = self.load.buffer();
            take(&path, reader, next, meter, &mut append(&mut piece))?;
            left -= next;
            // Whoever does not take it has failed, and says why in the end.
            let _ = sender.send(self.load.admit(piece));
        }
        Ok(())
    }

    fn send(&mut self, work: Work) {
        self.waiting += 1;
        // As above.
        let _ = self.queue.send(work);
    }
}

/// Writes a large file whose data needs no unpacking: there is nothing to be done by another thread meanwhile.
fn plain(body: Body, packed: Packed, reader: &mut dyn BufRead, meter: &mut Meter<'_>) -> Result<Filled> {
    let path = body.path.clone();
    let (mut filling, mut crc) = (body.open_over(packed.size)?, Crc::new());
    take(&path, reader, packed.length, meter, &mut |bytes| {
        if packed.crc.is_some() {
            crc.update(bytes);
        }
        filling.write(bytes)
    })?;
    packed.check(path.as_bytes(), crc.sum())?;
    filling.close()
}

fn append(to: &mut Vec<u8>) -> impl FnMut(&[u8]) -> Result<()> {
    |bytes| {
        to.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads the next bytes of a file.
fn take(
    path: &str,
    reader: &mut dyn BufRead,
    length: u64,
    meter: &mut Meter<'_>,
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

fn run(queue: &Mutex<Receiver<Work>>, finished: &Sender<Result<Vec<Filled>>>) {
    let (mut inflater, load) = (Inflater::default(), Load::default());
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        let filled = match work {
            Work::Small(files, data) => small(files, data.as_ref(), &mut inflater),
            Work::Large(job, pieces) => large(*job, pieces, &mut inflater, &load),
        };
        let failed = filled.is_err();
        if finished.send(filled).is_err() || failed {
            return;
        }
    }
}

fn small(files: Vec<(Job, Range<usize>)>, data: &[u8], inflater: &mut Inflater) -> Result<Vec<Filled>> {
    let fill = |(job, range): (Job, Range<usize>)| {
        let (data, deflated) = (&data[range], job.packed.deflated);
        let packed = deflated.then(|| job.packed.digest(data));
        // What is not packed is known by itself, but worth knowing only where it may be shared.
        let twins = job.body.twins();
        let known = twins.and_then(|twins| match &packed {
            Some(packed) => twins.unpacked(packed),
            None => Some(Sum::of(Hasher::new().update(data))),
        });
        let shared = known.map(|sum| job.body.share(sum)).transpose()?.flatten();
        let filled = match shared {
            Some(filled) => filled,
            None => fill(job, &mut std::iter::once(data), inflater)?,
        };
        Ok(Filled { packed, ..filled })
    };
    files.into_iter().map(fill).collect()
}

/// Nothing where the data ends before it is complete.
fn large(job: Job, pieces: Receiver<Piece>, inflater: &mut Inflater, load: &Load) -> Result<Vec<Filled>> {
    // What is still to come, and the digest of what came.
    let seen = &Mutex::new((job.packed.length, job.packed.hasher()));
    let seen = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = pieces.into_iter().inspect(|piece| {
        let mut seen = seen();
        seen.0 -= piece.as_ref().len() as u64;
        seen.1.update(piece.as_ref());
    });
    let filled = fill_ahead(job, &mut all, inflater, load);
    // Where it failed by itself, there is more to be had.
    let left = seen().0;
    let given_up = filled.is_err() && left > 0 && all.next().is_none();
    let packed = Some(Sum::of(&seen().1));
    if given_up { Ok(Vec::new()) } else { filled.map(|filled| vec![Filled { packed, ..filled }]) }
}

/// Inflates on yet another thread, so that one large file keeps two of them busy.
fn fill_ahead(
    job: Job,
    pieces: &mut (dyn Iterator<Item = Piece> + Send),
    inflater: &mut Inflater,
    load: &Load,
) -> Result<Filled> {
    let Job { body, packed } = job;
    let name = body.path.clone();
    let gone = || Error::failed("a thread that unpacks is gone");
    thread::scope(|scope| {
        let (sender, inflated) = channel();
        let inflating = scope.spawn(move || {
            inflater.inflate(name.as_bytes(), packed, pieces, &mut |bytes| {
                let mut buffer = load.buffer();
                buffer.extend_from_slice(bytes);
                sender.send(load.admit(buffer)).map_err(|_| gone())
            })
        });
        let mut filling = body.open()?;
        inflated.into_iter().try_for_each(|piece| filling.write(piece.as_ref()))?;
        inflating.join().unwrap_or_else(|_| Err(gone()))?;
        filling.close()
    })
}

fn fill(
    job: Job,
    pieces: &mut dyn Iterator<Item = impl AsRef<[u8]>>,
    inflater: &mut Inflater,
) -> Result<Filled> {
    let Job { body, packed } = job;
    let name = body.path.clone();
    let mut filling = body.open()?;
    inflater.inflate(name.as_bytes(), packed, pieces, &mut |bytes| filling.write(bytes))?;
    filling.close()
}
