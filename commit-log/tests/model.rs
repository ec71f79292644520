//! The log's protocol, checked in every interleaving of a small world: writers that may be paused at any point, puts that land late or
//! whose replies are lost, a reader that checkpoints, cleaners that may die. What the model calls a step is one call to the store.
//!
//! It also shows that the checker would find the mistakes that the design avoids.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use stateright::{Checker, HasDiscoveries, Model, Property};

/// A position from 1, as [`pagoda_commit_log::Lsn`].
type Lsn = u8;
/// One append, by its put id.
type Put = u8;

const ACKED_IS_KEPT: &str = "an acknowledged append stays at its position";
const ONCE_AT_MOST: &str = "an append is committed once at most, and whole";
const ONE_HISTORY: &str = "whoever is at a position has seen the same commits";
const CHECKPOINTS_ARE_TRUE: &str = "a checkpoint is the fold of the commits up to it";

/// What becomes of a commit that a checkpoint covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CleanUp {
    /// A stub that keeps the put id.
    Stub,
    /// A stub that forgets whose the commit was.
    StubWithoutPutId,
    /// Nothing: its slot is free again.
    Delete,
}

/// How large the world is, and by which rule it cleans up.
#[derive(Clone, Debug)]
struct World {
    clean_up: CleanUp,
    slots: Lsn,
    /// The appends of each writer.
    writers: Vec<u8>,
    readers: usize,
    cleaners: usize,
    /// The most puts at once that their writers gave up on and that may land yet.
    late_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    Free,
    Commit(Put),
    Stub { put: Option<Put>, to: Lsn },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// The put is under way.
    Sent,
    /// The put failed, or found the slot taken: the slot is to be read back.
    Unsure,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Writer {
    phase: Phase,
    /// The slot that it tries, or would try next; as old as it may be.
    at: Lsn,
    put: Put,
    left: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Reader {
    fold: Vec<Put>,
}

/// A clean-up under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Cleaning {
    next: Lsn,
    before: Lsn,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// Slot n is at n - 1.
    slots: Vec<Slot>,
    checkpoints: BTreeMap<Lsn, Vec<Put>>,
    /// Puts that their writer gave up on, and that may land yet.
    late: BTreeSet<(Lsn, Put)>,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    cleaners: Vec<Option<Cleaning>>,
    /// Known to nobody in the world: what landed first in each slot, and what was acknowledged.
    truth: Vec<Put>,
    acked: BTreeSet<(Lsn, Put)>,
    /// Whether a writer learned from a stub that its commit had landed.
    settled_by_stub: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Begin(usize),
    Land { writer: usize, reply_arrives: bool },
    Fail(usize),
    Delay(usize),
    ReadBack(usize),
    GiveUp(usize),
    LandLate(Lsn, Put),
    Read(usize),
    Restart(usize),
    Checkpoint(usize),
    StartCleaning { cleaner: usize, before: Lsn },
    Clean(usize),
    Die(usize),
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let writer =
            |(n, left): (usize, &u8)| Writer { phase: Phase::Idle, at: 1, put: 10 * (n as Put + 1), left: *left };
        vec![State {
            slots: vec![Slot::Free; self.slots.into()],
            checkpoints: BTreeMap::new(),
            late: BTreeSet::new(),
            writers: self.writers.iter().enumerate().map(writer).collect(),
            readers: vec![Reader::default(); self.readers],
            cleaners: vec![None; self.cleaners],
            truth: Vec::new(),
            acked: BTreeSet::new(),
            settled_by_stub: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (n, writer) in state.writers.iter().enumerate() {
            match writer.phase {
                Phase::Idle if writer.left > 0 && writer.at <= self.slots => actions.push(Action::Begin(n)),
                Phase::Idle => {}
                Phase::Sent => {
                    let land = |reply_arrives| Action::Land { writer: n, reply_arrives };
                    actions.extend([land(true), land(false), Action::Fail(n)]);
                    if state.late.len() < self.late_max {
                        actions.push(Action::Delay(n));
                    }
                }
                Phase::Unsure => actions.extend([Action::ReadBack(n), Action::GiveUp(n)]),
            }
        }
        actions.extend(state.late.iter().map(|(slot, put)| Action::LandLate(*slot, *put)));
        for (n, reader) in state.readers.iter().enumerate() {
            actions.extend([Action::Read(n), Action::Restart(n)]);
            if reader.lsn() > 0 {
                actions.push(Action::Checkpoint(n));
            }
        }
        for (n, cleaner) in state.cleaners.iter().enumerate() {
            match cleaner {
                Some(_) => actions.extend([Action::Clean(n), Action::Die(n)]),
                None => {
                    let covered = state.checkpoints.keys().last().copied().unwrap_or(0);
                    actions.extend((1..=covered).map(|before| Action::StartCleaning { cleaner: n, before }));
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Begin(n) => state.writers[n].phase = Phase::Sent,
            Action::Land { writer, reply_arrives } => state.land_of(writer, reply_arrives),
            Action::Fail(n) => state.writers[n].phase = Phase::Unsure,
            Action::Delay(n) => {
                state.late.insert((state.writers[n].at, state.writers[n].put));
                state.writers[n].phase = Phase::Unsure;
            }
            Action::ReadBack(n) => state.read_back(n, self.slots),
            Action::GiveUp(n) => state.writers[n].next_append(),
            Action::LandLate(slot, put) => {
                state.late.remove(&(slot, put));
                state.land(slot, put);
            }
            Action::Read(n) => state.read(n),
            Action::Restart(n) => state.readers[n].fold = state.newest_checkpoint(),
            Action::Checkpoint(n) => {
                let fold = state.readers[n].fold.clone();
                state.checkpoints.entry(fold.len() as Lsn).or_insert(fold);
            }
            Action::StartCleaning { cleaner, before } => state.cleaners[cleaner] = Some(Cleaning { next: 1, before }),
            Action::Clean(n) => state.clean(n, self.clean_up),
            Action::Die(n) => state.cleaners[n] = None,
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ACKED_IS_KEPT, |_, state: &State| {
                state.acked.iter().all(|(lsn, put)| state.truth.get(usize::from(*lsn) - 1) == Some(put))
            }),
            Property::always(ONCE_AT_MOST, |_, state: &State| {
                state.truth.iter().collect::<BTreeSet<_>>().len() == state.truth.len()
            }),
            Property::always(ONE_HISTORY, |_, state: &State| {
                state.readers.iter().all(|reader| state.truth.starts_with(&reader.fold))
            }),
            Property::always(CHECKPOINTS_ARE_TRUE, |_, state: &State| {
                state
                    .checkpoints
                    .iter()
                    .all(|(lsn, fold)| fold.len() == usize::from(*lsn) && state.truth.starts_with(fold))
            }),
            Property::sometimes("a writer commits after a clean-up", |_, state: &State| {
                let is_stub = |slot: &Slot| matches!(slot, Slot::Stub { .. });
                state.slots.iter().any(is_stub) && matches!(state.slots.last(), Some(Slot::Commit(_)))
            }),
            Property::sometimes("a stub tells a writer that its commit landed", |_, state: &State| {
                state.settled_by_stub
            }),
        ]
    }
}

impl Writer {
    fn next_append(&mut self) {
        (self.phase, self.put, self.left) = (Phase::Idle, self.put + 1, self.left - 1);
    }
}

impl Reader {
    fn lsn(&self) -> Lsn {
        self.fold.len() as Lsn
    }
}

impl State {
    /// A create-only put reaches the store; says whether it won.
    fn land(&mut self, slot: Lsn, put: Put) -> bool {
        let at = usize::from(slot) - 1;
        if self.slots[at] != Slot::Free {
            return false;
        }
        self.slots[at] = Slot::Commit(put);
        if at == self.truth.len() {
            self.truth.push(put);
        }
        true
    }

    fn land_of(&mut self, n: usize, reply_arrives: bool) {
        let (slot, put) = (self.writers[n].at, self.writers[n].put);
        let won = self.land(slot, put);
        if won && reply_arrives { self.acknowledge(n) } else { self.writers[n].phase = Phase::Unsure }
    }

    fn read_back(&mut self, n: usize, slots: Lsn) {
        let (at, put) = (self.writers[n].at, self.writers[n].put);
        let next = match self.slots[usize::from(at) - 1] {
            Slot::Commit(found) if found == put => return self.acknowledge(n),
            Slot::Stub { put: Some(found), .. } if found == put => {
                self.settled_by_stub = true;
                return self.acknowledge(n);
            }
            Slot::Free => at,
            Slot::Commit(_) => at + 1,
            Slot::Stub { to, .. } => to.max(at) + 1,
        };
        self.writers[n].at = next;
        if next > slots { self.writers[n].next_append() } else { self.writers[n].phase = Phase::Sent }
    }

    fn acknowledge(&mut self, n: usize) {
        let writer = &mut self.writers[n];
        self.acked.insert((writer.at, writer.put));
        writer.at += 1;
        writer.next_append();
    }

    fn read(&mut self, n: usize) {
        let next = usize::from(self.readers[n].lsn());
        match self.slots.get(next) {
            Some(Slot::Commit(put)) => self.readers[n].fold.push(*put),
            Some(Slot::Stub { .. }) => self.readers[n].fold = self.newest_checkpoint(),
            Some(Slot::Free) | None => {}
        }
    }

    fn newest_checkpoint(&self) -> Vec<Put> {
        self.checkpoints.values().last().cloned().unwrap_or_default()
    }

    fn clean(&mut self, n: usize, rule: CleanUp) {
        let Some(Cleaning { next, before }) = self.cleaners[n] else { return };
        if next > before {
            // The end: all checkpoints but two go.
            while self.checkpoints.len() > 2 {
                self.checkpoints.pop_first();
            }
            self.cleaners[n] = None;
            return;
        }
        let slot = &mut self.slots[usize::from(next) - 1];
        let put = match *slot {
            Slot::Commit(put) => Some(put),
            Slot::Stub { put, .. } => put,
            Slot::Free => None,
        };
        *slot = match rule {
            CleanUp::Stub => Slot::Stub { put, to: before },
            CleanUp::StubWithoutPutId => Slot::Stub { put: None, to: before },
            CleanUp::Delete => Slot::Free,
        };
        self.cleaners[n] = Some(Cleaning { next: next + 1, before });
    }
}

fn small(clean_up: CleanUp) -> World {
    World { clean_up, slots: 2, writers: vec![1, 1], readers: 1, cleaners: 1, late_max: 2 }
}

fn check(world: World) -> impl Checker<World> {
    let checker = world.checker().finish_when(HasDiscoveries::AnyFailures).threads(2).spawn_bfs().join();
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker
}

#[test]
fn the_protocol_keeps_its_promises_in_every_interleaving() {
    check(World { slots: 3, writers: vec![2, 1], late_max: 1, ..small(CleanUp::Stub) }).assert_properties();
}

#[test]
fn the_protocol_keeps_its_promises_with_two_cleaners_at_once() {
    check(World { cleaners: 2, ..small(CleanUp::Stub) }).assert_properties();
}

#[test]
fn slots_that_are_deleted_and_used_again_lose_acknowledged_writes() {
    let checker = check(small(CleanUp::Delete));
    let path = checker.discovery(ACKED_IS_KEPT).expect("a writer commits into the past");
    println!("{path}");
}

#[test]
fn stubs_without_a_put_id_commit_an_append_twice() {
    let checker = check(small(CleanUp::StubWithoutPutId));
    assert!(checker.discovery(ACKED_IS_KEPT).is_none());
    assert!(checker.discovery(ONCE_AT_MOST).is_some());
}
