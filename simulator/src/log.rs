//! Time passes: users visit, see slates, and click what they look at and like.

use pagoda_dataset::LogRow;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, weighted::WeightedAliasIndex};

use crate::{
    exposure::{Exposure, SLATE_SIZE, Visit, examination},
    item::Catalog,
    preference::click_probability,
    random::{Part, stream},
    time::{LOG_SPAN, LOG_START, log_share},
    user::User,
};

/// The places of events in [`EVENTS`].
pub(crate) const IMPRESSION: u8 = 0;
pub(crate) const CLICK: u8 = 1;
/// The names of events.
pub(crate) const EVENTS: [&str; 2] = ["impression", "click"];

const PROGRESS_EVERY: u64 = 20_000;

/// Simulates until `impressions` items were shown, slate by slate, evenly over the log's span.
/// `progress` is told how many of how many were shown.
pub(crate) fn simulate(
    seed: u64,
    (catalog, users): (&Catalog, &[User]),
    impressions: usize,
    progress: &mut dyn FnMut(u64, u64),
) -> Vec<LogRow> {
    let rng = &mut stream(seed, Part::Log);
    let visitors = WeightedAliasIndex::new(users.iter().map(|user| user.activity).collect())
        .expect("activities are positive and finite");
    let mut exposure = Exposure::new(catalog, users.len());
    let mut rows = Vec::with_capacity(impressions);
    let mut told = 0;
    while rows.len() < impressions {
        let place = visitors.sample(rng);
        let visit = Visit { place, user: &users[place], time: visit_time(rows.len(), impressions) };
        let mut slate = exposure.slate(visit, rng);
        slate.truncate(impressions - rows.len());
        show(visit, &slate, &mut exposure, rng, &mut rows);
        if rows.len() as u64 >= told + PROGRESS_EVERY {
            told = rows.len() as u64;
            progress(told, impressions as u64);
        }
    }
    progress(impressions as u64, impressions as u64);
    rows
}

/// The time at which the visit begins before which `shown` of all `impressions` were shown.
fn visit_time(shown: usize, impressions: usize) -> i64 {
    LOG_START + (shown as f64 / impressions as f64 * LOG_SPAN as f64) as i64
}

fn show(visit: Visit<'_>, slate: &[u32], exposure: &mut Exposure<'_>, rng: &mut ChaCha8Rng, rows: &mut Vec<LogRow>) {
    debug_assert!(slate.len() <= SLATE_SIZE);
    for (position, &item) in slate.iter().enumerate() {
        let truth = click_probability(visit.user, exposure.item(item), log_share(visit.time));
        let clicked = rng.random_bool(truth * examination(position));
        if clicked {
            exposure.record_click(visit.place, item);
        }
        let event = if clicked { CLICK } else { IMPRESSION };
        rows.push(LogRow { user: visit.place as u32, item, timestamp: visit.time, event, test: false });
    }
}
