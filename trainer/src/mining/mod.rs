//! Hard negatives, mined from a ranking of the catalog for each user (design section 4; Huang et al., "Embedding-based Retrieval in
//! Facebook Search", KDD 2020, section 6.1.1): items that a good ranker likes for a user, though not the most, and that the user is not
//! known to like.
//!
//! Whoever can rank is a [`Ranker`]: a model ([`ModelRanker`]), a file of scores ([`ScoresRanker`]), or one that the caller brings.
//! [`Mining`] asks it about the users of a [`MiningLog`] and writes what lies in a [`Window`] of each ranking; [`HardPools`] reads that
//! back for training. Nothing here sees the test part: an item that its user likes only there is an item like any other, as it would be on
//! the day of mining. So a mined item may be a positive of tomorrow; the window begins below the ranking's top for just that reason.

mod log;
mod mine;
mod model_ranker;
mod pools;
mod ranker;
mod scores_ranker;
#[cfg(test)]
mod tests;
mod window;

pub use log::MiningLog;
pub use mine::{Mining, MiningConfig, MiningSummary};
pub use model_ranker::ModelRanker;
pub use pools::{HardPools, MinedFrom};
pub use ranker::{AskedUser, Ranker, RankerError, Ranking};
pub use scores_ranker::ScoresRanker;
pub use window::Window;

pub use crate::top::{Ranked, Top};
