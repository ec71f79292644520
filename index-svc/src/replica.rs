//! [`Replica`]: follows the log of one index, applies it to the state, and shows each new snapshot.

use std::{collections::HashSet, sync::Arc};

use arc_swap::ArcSwap;
use pagoda_commit_log::{Log, Lsn, Store};

use crate::{
    error::IndexError,
    generation::{Generations, Loaded},
    record::{Commit, Publication},
    snapshot::Snapshot,
    state::{SPACES_HELD, State},
};

/// Where queries find the current snapshot.
pub type Current = Arc<ArcSwap<Snapshot>>;

/// The follower of one index's log.
#[derive(Debug)]
pub struct Replica {
    log: Log,
    generations: Generations,
    state: State,
    current: Current,
}

impl Replica {
    /// Replays the log and loads the generations that are current at its end.
    pub async fn open(store: Store, index_name: &str) -> Result<Self, IndexError> {
        let log = Log::open(store.clone(), &format!("index/{index_name}/log")).await?;
        let generations = Generations::new(store, index_name);
        let mut replica = Self { log, generations, state: State::default(), current: Current::default() };
        replica.follow().await?;
        Ok(replica)
    }

    /// Where the newest snapshot is found, now and later.
    pub fn current(&self) -> Current {
        self.current.clone()
    }

    /// The generations of this index.
    pub fn generations(&self) -> Generations {
        self.generations.clone()
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Applies what others, or this process, have committed since.
    pub async fn follow(&mut self) -> Result<(), IndexError> {
        let commits = self.commits_after(self.state.lsn()).await?;
        self.apply(commits, None).await
    }

    /// Commits durably, and returns once the commit is visible. `loaded` is the generation that it publishes, if it does.
    pub async fn commit(&mut self, commit: Commit, loaded: Option<Loaded>) -> Result<Lsn, IndexError> {
        let lsn = self.log.append(commit.encode()).await?;
        let commits = if lsn == self.state.lsn().next() {
            vec![(lsn, commit)]
        } else {
            self.commits_after(self.state.lsn()).await?
        };
        self.apply(commits, loaded).await.map(|()| lsn)
    }

    async fn apply(&mut self, commits: Vec<(Lsn, Commit)>, loaded: Option<Loaded>) -> Result<(), IndexError> {
        if commits.is_empty() {
            return Ok(());
        }
        let passing = passing(&commits);
        for (at, (lsn, commit)) in commits.iter().enumerate() {
            match commit {
                Commit::Writes(writes) => self.state.write(*lsn, writes),
                Commit::Publish(_) if passing.contains(lsn) => self.state.skip(*lsn),
                Commit::Publish(publication) => {
                    let loaded = self.load(publication, loaded.as_ref()).await?;
                    let since = self.since(publication, *lsn, &commits[..at]).await?;
                    self.state.publish(*lsn, loaded, &since);
                    tracing::info!(%lsn, generation = %publication.generation, model = %publication.model, "published");
                }
            }
        }
        self.current.store(Arc::new(self.state.snapshot()));
        Ok(())
    }

    /// The generation of a publication: at hand, held already, or from the store.
    async fn load(&self, publication: &Publication, at_hand: Option<&Loaded>) -> Result<Loaded, IndexError> {
        let held = self.state.spaces().iter().map(|space| space.loaded());
        let mut known = held.chain(at_hand).filter(|loaded| loaded.id == publication.generation);
        match known.next() {
            Some(loaded) => Ok(loaded.clone()),
            None => self.generations.load(&publication.generation).await,
        }
    }

    /// The commits between what a generation covers and its publication: those at hand, or read again.
    async fn since(
        &self,
        publication: &Publication,
        published: Lsn,
        at_hand: &[(Lsn, Commit)],
    ) -> Result<Vec<(Lsn, Commit)>, IndexError> {
        let first = publication.covers.next();
        if first >= published {
            return Ok(Vec::new());
        }
        match at_hand.first() {
            Some((lsn, _)) if *lsn <= first => Ok(at_hand.iter().filter(|(lsn, _)| *lsn >= first).cloned().collect()),
            _ => self.commits_after(publication.covers).await,
        }
    }

    async fn commits_after(&self, lsn: Lsn) -> Result<Vec<(Lsn, Commit)>, IndexError> {
        let payloads = self.log.read_after(lsn).await?;
        let decode = |(lsn, payload)| match Commit::decode(payload) {
            Ok(commit) => Ok((lsn, commit)),
            Err(e) => Err(IndexError::Damaged { what: format!("commit {lsn} of the log"), why: e.to_string() }),
        };
        payloads.into_iter().map(decode).collect()
    }
}

/// The publications that later ones of the same batch supersede, so that their generations need not be loaded.
fn passing(commits: &[(Lsn, Commit)]) -> HashSet<Lsn> {
    let mut newer = HashSet::new();
    let mut passing = HashSet::new();
    for (lsn, commit) in commits.iter().rev() {
        if let Commit::Publish(publication) = commit {
            if newer.contains(&publication.model.space) || newer.len() >= SPACES_HELD {
                passing.insert(*lsn);
            }
            newer.insert(publication.model.space);
        }
    }
    passing
}
