//! Unpacks the entries of a zip on two threads, while a third reads the file in order.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use super::inflate::Inflater;
use super::load::{Load, Piece};
use super::record::Listed;
use crate::archive::body::{Body, Filled};
use crate::archive::intake::Intake;
use crate::error::{Error, Result};

/// How many threads unpack.
const THREADS: usize = 2;
/// How many entries may wait.
const JOBS: usize = 1024;
/// How much of an entry is handed on at a time, in bytes.
pub const PIECE: u64 = 256 << 10;

/// An entry whose data has to be unpacked.
struct Job {
    listed: Arc<Listed>,
    body: Body,
    pieces: Receiver<Piece>,
}

/// The threads, and what they have to do.
pub struct Crew {
    jobs: SyncSender<Job>,
    done: Receiver<Result<Option<Filled>>>,
    waiting: usize,
    /// What was handed over and is not unpacked yet.
    pub load: Load,
}

impl Crew {
    /// Starts the threads; they end when the crew is dropped.
    pub fn new<'scope>(scope: &'scope Scope<'scope, '_>) -> Self {
        let (jobs, queue) = sync_channel::<Job>(JOBS);
        let queue = Arc::new(Mutex::new(queue));
        let (finished, done) = channel();
        for _ in 0..THREADS {
            let (queue, finished) = (Arc::clone(&queue), finished.clone());
            scope.spawn(move || work(&queue, &finished));
        }
        Self { jobs, done, waiting: 0, load: Load::default() }
    }

    /// Hands over a file; its data goes piece by piece into what is returned.
    ///
    /// # Errors
    /// When an earlier one failed.
    pub fn unpack(
        &mut self,
        listed: Arc<Listed>,
        body: Body,
        intake: &mut Intake<'_>,
    ) -> Result<Sender<Piece>> {
        let (sender, pieces) = channel();
        self.waiting += 1;
        // Whoever does not take it has failed and said why.
        let _ = self.jobs.send(Job { listed, body, pieces });
        while let Ok(filled) = self.done.try_recv() {
            self.waiting -= 1;
            if let Some(filled) = filled? {
                intake.put(filled);
            }
        }
        Ok(sender)
    }

    /// Waits until all are done. An entry whose data ends early is dropped: whoever handed it over knows why.
    ///
    /// # Errors
    /// When one of them failed.
    pub fn finish(self, intake: &mut Intake<'_>) -> Result<()> {
        drop(self.jobs);
        for _ in 0..self.waiting {
            let filled = self.done.recv().map_err(|_| Error::failed("a thread that unpacks is gone"))?;
            if let Some(filled) = filled? {
                intake.put(filled);
            }
        }
        Ok(())
    }
}

fn work(queue: &Mutex<Receiver<Job>>, finished: &Sender<Result<Option<Filled>>>) {
    let mut inflater = Inflater::default();
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let filled = fill(job, &mut inflater);
        let failed = filled.is_err();
        if finished.send(filled).is_err() || failed {
            return;
        }
    }
}

/// Nothing where the data ends before it is complete.
fn fill(job: Job, inflater: &mut Inflater) -> Result<Option<Filled>> {
    let Job { listed, body, pieces } = job;
    let (mut left, mut given_up) = (listed.packed, false);
    let all = std::iter::from_fn(|| {
        let piece = pieces.recv().ok();
        left -= piece.as_ref().map_or(0, |piece| piece.as_ref().len() as u64);
        given_up = piece.is_none() && left > 0;
        piece
    });
    let mut filling = body.open()?;
    let whole = inflater.inflate(&listed, all, &mut |bytes| filling.write(bytes));
    if given_up { Ok(None) } else { whole.and_then(|()| filling.close()).map(Some) }
}
