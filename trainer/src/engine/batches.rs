//! [`Batch`]: the examples of one step, with histories point-in-time, negatives drawn and accidental hits found.
//!
//! Nothing here depends on what was learned, so that a batch can be put together while the one before it is learned from.

use std::ops::Range;

use pagoda_model::{Side, features::EncodedBatch, schema::Split};
use rand::{Rng, SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;

use super::{
    Encoded,
    columns::ColumnsByItem,
    encoded::UserExample,
    ledger::Pairs,
    lists::Lists,
    private::{PrivateNegatives, PrivateSources},
    sources::{Drawn, Mixture, NegativeSampler, is_ordered},
    targets::{Target, Window},
};
use crate::{
    config::{Examples as Unit, LogQ, LossKind, TrainConfig},
    data::{Example, mixed},
};

/// The least frequency that is corrected for.
const LEAST_FREQUENCY: f64 = 1e-12;

/// One step's examples, encoded. Rows are examples. Columns are the negatives that rows share: the positives of the batch if they are a
/// source, then what was sampled, then what is cached.
pub(super) struct Batch {
    pub(super) users: EncodedBatch,
    /// Of sequences: by user, the positions of the rows; see [`super::passes::PassInput`].
    pub(super) positions: Option<Lists<Option<u32>>>,
    /// Each row's positive, then what was sampled, then the rows' private negatives, of which each item is there once.
    pub(super) items: EncodedBatch,
    /// The positives' places in the catalog.
    pub(super) positives: Vec<u32>,
    /// Whether the positives are columns.
    pub(super) in_batch: bool,
    pub(super) sampled: usize,
    /// By row, with repetition: which of the private negatives are the row's.
    pub(super) private: Lists<u32>,
    pub(super) log_q: BatchLogQ,
    /// By row, the columns that are no negatives of it; its own among them.
    pub(super) masked: Lists<u32>,
    /// By row, the columns that are drawn from its own pools as well, and what that adds to their log frequency.
    pub(super) adjusted: Lists<(u32, f32)>,
    /// By objective and row.
    pub(super) weights: Vec<Vec<f32>>,
    /// The columns of each shared source.
    pub(super) segments: Vec<Range<usize>>,
    pub(super) pairs: Pairs,
    /// The catalog places of all columns.
    pub(super) columns: Vec<u32>,
}

/// What is subtracted from logits: of rows' positives, of columns, of private negatives.
pub(super) struct BatchLogQ {
    pub(super) positives: Vec<f32>,
    pub(super) columns: Vec<f32>,
    pub(super) private: Vec<f32>,
}

impl Batch {
    /// How many examples there are.
    pub(super) fn rows(&self) -> usize {
        self.positives.len()
    }
}

/// Makes batches of examples.
pub(super) struct Batcher<'a> {
    pub(super) encoded: &'a Encoded,
    pub(super) config: &'a TrainConfig,
    pub(super) split: Split,
    /// By objective, by event: what a positive weighs.
    pub(super) event_weights: Vec<Vec<f32>>,
    pub(super) sampler: NegativeSampler,
    pub(super) mixture: Mixture,
    pub(super) private: PrivateSources<'a>,
    pub(super) columns: ColumnsByItem,
    /// Positives of earlier batches, oldest first; as many as the cache holds.
    pub(super) cache: Vec<u32>,
}

impl Batcher<'_> {
    /// Puts the batch of a step together. `hard` says how much of the hard negatives' number is drawn by now, 0 to 1.
    pub(super) fn batch(&mut self, examples: &[Example], step: u64, hard: f64) -> Batch {
        let mut rng = ChaCha8Rng::seed_from_u64(mixed(&[self.config.seed, step]));
        let (users, positions, targets) = match self.config.training.examples {
            Unit::Interactions => {
                let targets: Vec<Target<'_>> = examples.iter().map(Target::of_row).collect();
                (self.users(&targets, &mut rng), None, targets)
            }
            Unit::Sequences => {
                let (users, positions, targets) = self.sequences(examples, &mut rng);
                (users, Some(positions), targets)
            }
        };
        let positives: Vec<u32> = targets.iter().map(Target::item).collect();
        let sampled = [
            self.sampler.draw_uniform(self.mixture.uniform, &mut rng),
            self.sampler.draw_popular(self.mixture.popularity, &mut rng),
        ];
        let private_seed = mixed(&[self.config.seed, step, 2]);
        let private = self.private.draw(&targets, &self.mixture, hard, private_seed);
        let drawn = Drawn {
            in_batch: if self.mixture.in_batch { positives.len().saturating_sub(1) } else { 0 },
            uniform: sampled[0].len(),
            popularity: sampled[1].len(),
            cache: self.cache.len(),
        };
        let segments = segments(&drawn, positives.len());
        let own: &[u32] = if self.mixture.in_batch { &positives } else { &[] };
        let columns = [own, &sampled[0], &sampled[1], &self.cache].concat();
        let (masked, pairs) = self.columns.masked(&targets, &columns, self.mixture.in_batch, &segments);
        let pairs = pairs.with_private(&private);
        let log_q = self.log_q(&positives, &columns, &private, &drawn);
        let adjusted = self.adjusted(&targets, &columns, &log_q.columns, hard);
        let batch = Batch {
            items: self.items(&[&positives, &sampled[0], &sampled[1], private.items()], &mut rng),
            log_q,
            adjusted,
            weights: self.weights(&targets),
            in_batch: self.mixture.in_batch,
            sampled: sampled[0].len() + sampled[1].len(),
            private: private.into_rows(),
            users,
            positions,
            masked,
            segments,
            pairs,
            columns,
            positives,
        };
        self.remember(&batch.positives);
        batch
    }

    fn users(&self, targets: &[Target<'_>], rng: &mut ChaCha8Rng) -> EncodedBatch {
        let training = &self.config.training;
        let mut users = self.encoded.empty(Side::User);
        for target in targets {
            let history =
                if rng.random_bool(training.history_dropout) { Vec::new() } else { self.history(target, rng) };
            let id_hidden = rng.random_bool(training.id_dropout);
            let example = UserExample { user: target.timeline.user, history: &history, id_hidden };
            self.encoded.push_user(&mut users, &example);
        }
        users
    }

    /// What was known of the user before the example. Given files have no order: there it is a sample of the user's others.
    fn history(&self, target: &Target<'_>, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let length = self.encoded.history_length();
        if is_ordered(self.split) {
            let known = target.known(self.split);
            return known[known.len().saturating_sub(4 * length)..].to_vec();
        }
        let others = target.timeline.items.iter().copied().filter(|&item| item != target.item());
        sample(others.collect(), length, rng)
    }

    /// A window of each user's sequence, longest first, so that shards are padded little; a row for each position that has a target.
    fn sequences<'e>(
        &self,
        examples: &'e [Example],
        rng: &mut ChaCha8Rng,
    ) -> (EncodedBatch, Lists<Option<u32>>, Vec<Target<'e>>) {
        let training = &self.config.training;
        let (encoded, length) = (self.encoded, self.encoded.history_length());
        let mut windows: Vec<Window<'e>> = examples
            .iter()
            .map(|example| Window::draw(example, length, self.split, training.history_dropout, rng))
            .collect();
        windows.sort_by_key(|window| std::cmp::Reverse(window.len()));
        let (mut users, mut positions, mut targets) = (encoded.empty(Side::User), Lists::new(), Vec::new());
        for window in &windows {
            let rows = window.rows(|item| encoded.is_known(item));
            if rows.is_empty() {
                continue;
            }
            let id_hidden = rng.random_bool(training.id_dropout);
            let history = window.inputs();
            encoded.push_user(&mut users, &UserExample { user: window.timeline.user, history, id_hidden });
            positions.push(rows.iter().map(|&(position, _)| position));
            targets.extend(rows.iter().map(|&(_, at)| Target { timeline: window.timeline, at }));
        }
        (users, positions, targets)
    }

    fn items(&self, parts: &[&[u32]], rng: &mut ChaCha8Rng) -> EncodedBatch {
        let mut items = self.encoded.empty(Side::Item);
        for &item in parts.iter().copied().flatten() {
            self.encoded.push_item(&mut items, item, rng.random_bool(self.config.training.id_dropout));
        }
        items
    }

    /// The positive of a row is corrected like a column under the standard correction alone. A private negative was also drawn from its
    /// own pool.
    fn log_q(&self, positives: &[u32], columns: &[u32], private: &PrivateNegatives, drawn: &Drawn) -> BatchLogQ {
        let log_q = |item: u32, more: f64| (self.sampler.expected(item, drawn) + more).max(LEAST_FREQUENCY).ln() as f32;
        let mode = self.config.negatives.log_q;
        let of = |items: &[u32], corrected: bool| -> Vec<f32> {
            items.iter().map(|&item| if corrected { log_q(item, 0.0) } else { 0.0 }).collect()
        };
        BatchLogQ {
            positives: of(positives, mode == LogQ::Standard),
            columns: of(columns, mode != LogQ::None),
            private: private.drawn().map(|(i, more)| if mode == LogQ::None { 0.0 } else { log_q(i, more) }).collect(),
        }
    }

    fn adjusted(&mut self, targets: &[Target<'_>], columns: &[u32], log_q: &[f32], hard: f64) -> Lists<(u32, f32)> {
        let corrects = self.config.loss.kind == LossKind::Softmax && self.config.negatives.log_q != LogQ::None;
        if self.private.is_empty() || !corrects {
            return targets.iter().map(|_| []).collect();
        }
        let (private, mixture) = (&self.private, &self.mixture);
        self.columns.adjusted(targets, columns, log_q, |target| private.pools(target, mixture, hard))
    }

    fn weights(&self, targets: &[Target<'_>]) -> Vec<Vec<f32>> {
        let of = |weights: &Vec<f32>| targets.iter().map(|target| weights[target.event()]).collect();
        self.event_weights.iter().map(of).collect()
    }

    fn remember(&mut self, positives: &[u32]) {
        let capacity = self.mixture.cache;
        self.cache.extend_from_slice(positives);
        self.cache.drain(..self.cache.len().saturating_sub(capacity));
    }
}

/// The columns of each shared source, one after another.
fn segments(drawn: &Drawn, rows: usize) -> Vec<Range<usize>> {
    let own = if drawn.in_batch > 0 { rows } else { 0 };
    let mut start = 0;
    let counts = [own, drawn.uniform, drawn.popularity, drawn.cache];
    let ranges = counts.map(|count| {
        start += count;
        start - count..start
    });
    ranges.to_vec()
}

fn sample(items: Vec<u32>, length: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
    if items.len() <= length {
        return items;
    }
    index::sample(rng, items.len(), length).iter().map(|i| items[i]).collect()
}
