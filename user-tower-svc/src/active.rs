//! Which model answers: the newest loaded one whose embedding space the index holds.

use std::sync::Arc;

use arc_swap::ArcSwap;
use pagoda_model::{ModelVersion, SpaceId};
use tokio::sync::Notify;

use crate::error::Error;

/// What is known of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IndexView {
    /// It has not answered yet: why.
    Unseen(String),
    /// The spaces that it holds, the most recently published first. It may have gone since.
    Holds(Vec<SpaceId>),
}

/// The spaces that the index was last known to hold.
#[derive(Debug)]
pub(crate) struct HeldSpaces {
    view: ArcSwap<IndexView>,
    seen: Notify,
}

impl HeldSpaces {
    pub(crate) fn new() -> Self {
        let unseen = IndexView::Unseen("it was not asked yet".into());
        Self { view: ArcSwap::from_pointee(unseen), seen: Notify::new() }
    }

    /// Notes what the index said; returns it, whatever it is said to hold meanwhile.
    pub(crate) fn set(&self, spaces: Vec<SpaceId>) -> Arc<IndexView> {
        let view = Arc::new(IndexView::Holds(spaces));
        let before = self.view.swap(view.clone());
        if matches!(*before, IndexView::Unseen(_)) {
            self.seen.notify_one();
        }
        view
    }

    /// Resolves when the index has answered for the first time, for one who waits.
    pub(crate) async fn seen(&self) {
        self.seen.notified().await;
    }

    /// Notes that the index does not answer. What it was known to hold stays known: it probably still does.
    pub(crate) fn note_silence(&self, why: &str) {
        if matches!(**self.view.load(), IndexView::Unseen(_)) {
            self.view.store(IndexView::Unseen(why.to_owned()).into());
        }
    }

    /// The spaces that it holds, as far as is known.
    pub(crate) fn spaces(&self) -> Vec<SpaceId> {
        match &**self.view.load() {
            IndexView::Unseen(_) => Vec::new(),
            IndexView::Holds(spaces) => spaces.clone(),
        }
    }

    /// The model that answers, among those loaded, newest first.
    pub(crate) fn choose(&self, loaded: &[ModelVersion]) -> Result<ModelVersion, Error> {
        self.view.load().choose(loaded)
    }
}

impl IndexView {
    /// The model that answers, among those loaded, newest first.
    pub(crate) fn choose(&self, loaded: &[ModelVersion]) -> Result<ModelVersion, Error> {
        if loaded.is_empty() {
            return Err(Error::ModelNotReady("no model is loaded yet; `pagoda train` registers one".into()));
        }
        match self {
            Self::Unseen(why) => Err(Error::IndexUnavailable(why.clone())),
            Self::Holds(held) => {
                let chosen = loaded.iter().find(|model| held.contains(&model.space));
                chosen.copied().ok_or_else(|| Error::SpaceNotHeld { held: held.clone() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OLD: ModelVersion = ModelVersion { space: SpaceId(1), revision: 0 };
    const APPENDED: ModelVersion = ModelVersion { space: SpaceId(1), revision: 1 };
    const NEW: ModelVersion = ModelVersion { space: SpaceId(2), revision: 0 };

    fn chosen(loaded: &[ModelVersion], held: &[SpaceId]) -> Option<ModelVersion> {
        IndexView::Holds(held.to_vec()).choose(loaded).ok()
    }

    #[test]
    fn the_newest_model_that_the_index_can_answer_is_active() {
        assert_eq!(chosen(&[NEW, OLD], &[SpaceId(1)]), Some(OLD), "a rollout: the index is not there yet");
        assert_eq!(chosen(&[NEW, OLD], &[SpaceId(2), SpaceId(1)]), Some(NEW), "the index holds both");
        assert_eq!(chosen(&[NEW, OLD], &[SpaceId(1), SpaceId(2)]), Some(NEW), "their order does not matter");
        assert_eq!(chosen(&[APPENDED, OLD], &[SpaceId(1)]), Some(APPENDED), "a revision of the same space");
    }

    #[test]
    fn without_a_match_the_error_says_what_is_missing() {
        let held = IndexView::Holds(vec![SpaceId(3)]);
        assert!(matches!(held.choose(&[NEW]), Err(Error::SpaceNotHeld { held }) if held == [SpaceId(3)]));
        assert!(matches!(held.choose(&[]), Err(Error::ModelNotReady(_))));
        assert!(matches!(IndexView::Unseen("gone".into()).choose(&[NEW]), Err(Error::IndexUnavailable(_))));
    }

    #[test]
    fn an_index_that_falls_silent_is_still_known_to_hold_its_spaces() {
        let spaces = HeldSpaces::new();
        spaces.note_silence("refused");
        assert!(spaces.choose(&[OLD]).unwrap_err().to_string().contains("refused"));
        spaces.set(vec![SpaceId(1)]);
        spaces.note_silence("refused");
        assert_eq!(spaces.choose(&[OLD]).unwrap(), OLD);
    }

    #[test]
    fn what_the_index_answered_stands_whatever_a_poll_says_meanwhile() {
        let spaces = HeldSpaces::new();
        let answered = spaces.set(vec![SpaceId(1)]);
        spaces.set(vec![SpaceId(2)]);
        assert_eq!(answered.choose(&[NEW, OLD]).unwrap(), OLD);
        assert_eq!(spaces.choose(&[NEW, OLD]).unwrap(), NEW);
    }

    #[tokio::test]
    async fn the_first_answer_of_the_index_is_told_once() {
        let spaces = HeldSpaces::new();
        let is_told = async || tokio::time::timeout(Duration::ZERO, spaces.seen()).await.is_ok();
        assert!(!is_told().await);
        spaces.set(vec![SpaceId(1)]);
        assert!(is_told().await, "also to one who waits only now");
        spaces.set(vec![SpaceId(2)]);
        assert!(!is_told().await);
    }
}
