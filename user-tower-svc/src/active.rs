//! Which model answers: the newest loaded one whose embedding space the index holds.

use arc_swap::ArcSwap;
use pagoda_model::{ModelVersion, SpaceId};

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
pub(crate) struct HeldSpaces(ArcSwap<IndexView>);

impl HeldSpaces {
    pub(crate) fn new() -> Self {
        Self(ArcSwap::from_pointee(IndexView::Unseen("it was not asked yet".into())))
    }

    pub(crate) fn set(&self, spaces: Vec<SpaceId>) {
        self.0.store(IndexView::Holds(spaces).into());
    }

    /// Notes that the index does not answer. What it was known to hold stays known: it probably still does.
    pub(crate) fn note_silence(&self, why: &str) {
        if matches!(**self.0.load(), IndexView::Unseen(_)) {
            self.0.store(IndexView::Unseen(why.to_owned()).into());
        }
    }

    /// The model that answers, among those loaded, newest first.
    pub(crate) fn choose(&self, loaded: &[ModelVersion]) -> Result<ModelVersion, Error> {
        choose(loaded, &self.0.load())
    }
}

fn choose(loaded: &[ModelVersion], view: &IndexView) -> Result<ModelVersion, Error> {
    if loaded.is_empty() {
        return Err(Error::ModelNotReady("no model is loaded yet; `pagoda train` registers one".into()));
    }
    match view {
        IndexView::Unseen(why) => Err(Error::IndexUnavailable(why.clone())),
        IndexView::Holds(held) => {
            let chosen = loaded.iter().find(|model| held.contains(&model.space));
            chosen.copied().ok_or_else(|| Error::SpaceNotHeld { held: held.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: ModelVersion = ModelVersion { space: SpaceId(1), revision: 0 };
    const APPENDED: ModelVersion = ModelVersion { space: SpaceId(1), revision: 1 };
    const NEW: ModelVersion = ModelVersion { space: SpaceId(2), revision: 0 };

    fn chosen(loaded: &[ModelVersion], held: &[SpaceId]) -> Option<ModelVersion> {
        choose(loaded, &IndexView::Holds(held.to_vec())).ok()
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
        assert!(matches!(choose(&[NEW], &held), Err(Error::SpaceNotHeld { held }) if held == [SpaceId(3)]));
        assert!(matches!(choose(&[], &held), Err(Error::ModelNotReady(_))));
        assert!(matches!(choose(&[NEW], &IndexView::Unseen("gone".into())), Err(Error::IndexUnavailable(_))));
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
}
