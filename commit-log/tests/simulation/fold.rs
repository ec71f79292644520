//! What the simulation keeps a log of, and a follower of it as a service would write one.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use pagoda_commit_log::{Log, LogError, Lsn};

/// The state: every payload so far. A checkpoint holds it whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fold {
    payloads: Vec<String>,
}

/// Follows a log, from a checkpoint where it must.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) log: Log,
    pub(crate) fold: Fold,
    /// How often it had to start from a checkpoint.
    pub(crate) restarts: u64,
}

impl Fold {
    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(self.payloads.len() as u64)
    }

    pub(crate) fn payloads(&self) -> &[String] {
        &self.payloads
    }

    pub(crate) fn apply(&mut self, lsn: Lsn, payload: &Bytes) {
        assert_eq!(lsn, self.lsn().next(), "a commit is skipped or repeated");
        self.payloads.push(String::from_utf8(payload.to_vec()).expect("whole"));
    }

    pub(crate) fn encode(&self) -> Bytes {
        self.payloads.join("\n").into()
    }

    pub(crate) fn decode(lsn: Lsn, checkpoint: &Bytes) -> Self {
        let text = std::str::from_utf8(checkpoint).expect("whole");
        let fold = Self { payloads: text.lines().map(str::to_owned).collect() };
        assert_eq!(fold.lsn(), lsn, "a checkpoint of another position");
        fold
    }

    /// Tells this state from any other.
    pub(crate) fn digest(&self) -> u64 {
        digest(&self.payloads)
    }

    /// The digest that a state at a position of this history must have.
    pub(crate) fn digest_at(&self, lsn: Lsn) -> u64 {
        digest(&self.payloads[..lsn.0 as usize])
    }
}

impl Follower {
    pub(crate) fn new(log: Log) -> Self {
        Self { log, fold: Fold::default(), restarts: 0 }
    }

    /// Reads on to the log's end.
    pub(crate) async fn follow(&mut self) -> Result<(), LogError> {
        loop {
            match self.log.read_after(self.fold.lsn()).await {
                Ok(commits) => {
                    commits.iter().for_each(|(lsn, payload)| self.fold.apply(*lsn, payload));
                    return Ok(());
                }
                Err(LogError::Cleaned { lsn, .. }) => {
                    let (at, checkpoint) = self.log.newest_checkpoint().await?.expect("what was cleaned up is covered");
                    assert!(at >= lsn, "a checkpoint at {at} does not lead past {lsn}");
                    self.fold = Fold::decode(at, &checkpoint);
                    self.restarts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn digest(payloads: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payloads.hash(&mut hasher);
    hasher.finish()
}
