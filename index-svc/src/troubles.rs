//! [`Troubles`]: what the index cannot do for the moment, for how long, and why. Meanwhile what it holds is searched.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::error::IndexError;

/// What cannot be done for the moment.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The log cannot be followed: nothing newer is seen, and writes are refused.
    pub following: Option<Trouble>,
    /// The last write, publication or rollback failed at the store.
    pub writing: Option<Trouble>,
    /// The last upsert was refused, since there are as many fresh items as there may be.
    pub full: Option<Trouble>,
    /// A generation that is current cannot be loaded.
    pub loading: Option<Trouble>,
    /// Whether something was published and nothing can be searched.
    pub serves_nothing: bool,
}

/// One thing that cannot be done.
#[derive(Clone, Debug)]
pub struct Trouble {
    since: Instant,
    /// The reason that was met last.
    pub why: String,
}

/// Where what is known stands. Clones show the same.
#[derive(Clone, Debug)]
pub struct Troubles(watch::Sender<Known>);

/// How a trouble moved on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is one now.
    Began,
    /// There was one.
    Ended,
    /// As before.
    Stayed,
}

impl Default for Troubles {
    fn default() -> Self {
        Self(watch::Sender::new(Known::default()))
    }
}

impl Known {
    /// Why writes are refused, all of them or upserts alone.
    pub fn refuses_writes(&self) -> Option<&Trouble> {
        self.writing.as_ref().or(self.full.as_ref())
    }
}

impl Trouble {
    /// How long it has lasted.
    pub fn lasted(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Troubles {
    /// What is known now.
    pub fn now(&self) -> Known {
        self.0.borrow().clone()
    }

    /// Tells of each change.
    pub fn changes(&self) -> watch::Receiver<Known> {
        self.0.subscribe()
    }

    /// Notes what became of a look at the log. A write that failed while it could not be followed may well succeed now.
    pub(crate) fn note_following(&self, error: Option<&IndexError>) -> Turn {
        self.note(|known| {
            let turn = turn(&mut known.following, error.map(ToString::to_string));
            if turn == Turn::Ended {
                known.writing = None;
            }
            turn
        })
    }

    /// Notes what became of a commit.
    pub(crate) fn note_writing(&self, error: Option<&IndexError>) -> Turn {
        self.note(|known| turn(&mut known.writing, error.map(ToString::to_string)))
    }

    /// Notes whether there was room for an upsert.
    pub(crate) fn note_room(&self, error: Option<&IndexError>) -> Turn {
        self.note(|known| turn(&mut known.full, error.map(ToString::to_string)))
    }

    /// Notes why a generation that is current cannot be loaded, if one cannot, and whether nothing at all is searched: that ends when something is,
    /// not when another generation is tried.
    pub(crate) fn note_loading(&self, why: Option<String>, searches_nothing: bool) {
        self.note(|known| {
            known.serves_nothing = searches_nothing && (why.is_some() || known.serves_nothing);
            turn(&mut known.loading, why)
        });
    }

    fn note(&self, change: impl FnOnce(&mut Known) -> Turn) -> Turn {
        let mut turned = Turn::Stayed;
        self.0.send_if_modified(|known| {
            let served_nothing = known.serves_nothing;
            turned = change(known);
            turned != Turn::Stayed || known.serves_nothing != served_nothing
        });
        turned
    }
}

fn turn(slot: &mut Option<Trouble>, why: Option<String>) -> Turn {
    match (&mut *slot, why) {
        (None, None) => Turn::Stayed,
        (Some(trouble), Some(why)) => {
            trouble.why = why;
            Turn::Stayed
        }
        (None, Some(why)) => {
            *slot = Some(Trouble { since: Instant::now(), why });
            Turn::Began
        }
        (Some(_), None) => {
            *slot = None;
            Turn::Ended
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_keeps_its_beginning_and_has_its_last_reason() {
        let troubles = Troubles::default();
        assert_eq!(troubles.note_writing(None), Turn::Stayed);
        assert_eq!(troubles.note_writing(Some(&IndexError::StoreAway)), Turn::Began);
        let since = troubles.now().writing.unwrap().since;
        assert_eq!(troubles.note_writing(Some(&IndexError::Overloaded("another reason"))), Turn::Stayed);
        let now = troubles.now().writing.unwrap();
        assert_eq!((now.since, now.why.as_str()), (since, "another reason"));
        assert_eq!(troubles.note_writing(None), Turn::Ended);
        assert!(troubles.now().writing.is_none());
    }

    #[test]
    fn nothing_is_served_until_something_is_searched() {
        let troubles = Troubles::default();
        let serves_nothing = |why: Option<&str>, searches_nothing| {
            troubles.note_loading(why.map(str::to_owned), searches_nothing);
            troubles.now().serves_nothing
        };
        assert!(!serves_nothing(None, true), "nothing was published yet");
        assert!(serves_nothing(Some("it does not fit"), true));
        assert!(serves_nothing(None, true), "another one is being loaded");
        assert!(!serves_nothing(None, false));
        assert!(!serves_nothing(Some("it does not fit"), false), "the one before is searched");
    }

    #[test]
    fn writes_that_failed_with_the_log_are_forgotten_with_it() {
        let troubles = Troubles::default();
        troubles.note_following(Some(&IndexError::StoreAway));
        troubles.note_writing(Some(&IndexError::StoreAway));
        assert_eq!(troubles.note_following(None), Turn::Ended);
        assert!(troubles.now().writing.is_none());
    }
}
