//! [`Target`]: what a row has to find, and [`Window`]: a piece of a user's sequence whose positions are rows.

use pagoda_model::schema::Split;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::sources::is_ordered;
use crate::data::{Example, Timeline};

/// One positive of a user: what a row has to find.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'t> {
    /// Training positives only.
    pub(super) timeline: Timeline<'t>,
    /// Its place in the timeline.
    pub(super) at: usize,
}

impl<'t> Target<'t> {
    /// The target that an example of a row is.
    pub(super) fn of_row(example: &'t Example) -> Self {
        let timeline = example.timelines.timeline(example.timelines.owner(example.place));
        Self { timeline, at: example.place - timeline.first_row }
    }

    /// The item's place in the catalog.
    pub(super) fn item(&self) -> u32 {
        self.timeline.items[self.at]
    }

    /// The place of its event.
    pub(super) fn event(&self) -> usize {
        usize::from(self.timeline.events[self.at])
    }

    /// The items before it, oldest first: by the order of the log where each user's last is left out, else strictly by time.
    pub(super) fn known(&self, split: Split) -> &'t [u32] {
        match split {
            Split::LeaveLastOut => &self.timeline.items[..self.at],
            Split::Temporal | Split::Given => self.timeline.before(self.timeline.timestamps[self.at]),
        }
    }
}

/// Consecutive rows of a timeline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'t> {
    pub(super) timeline: Timeline<'t>,
    start: usize,
    end: usize,
    split: Split,
    /// Whether the first row is to be found from nothing.
    cold: bool,
}

impl<'t> Window<'t> {
    /// A window of at most `length` rows to know and one more to find, at a place drawn evenly; with a probability of `cold`, its first row
    /// is to be found from nothing.
    pub(super) fn draw(example: &'t Example, length: usize, split: Split, cold: f64, rng: &mut ChaCha8Rng) -> Self {
        let timeline = example.timelines.timeline(example.place);
        let count = timeline.items.len();
        let longest = (length + 1).min(count);
        let end = rng.random_range(longest..=count);
        // A single row can be found from nothing alone.
        let cold = rng.random_bool(cold);
        Self { timeline, start: end - longest, end, split, cold }
    }

    /// How many rows it has.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// The items that are known to some row.
    pub(super) fn inputs(&self) -> &'t [u32] {
        &self.timeline.items[self.start..self.end.saturating_sub(1).max(self.start)]
    }

    /// For each row, the position that predicts it (counted among the inputs that are known to the model) and its place in the
    /// timeline. A row that shares its time with the one before is none where time decides: it was not before it.
    pub(super) fn rows(&self, is_known: impl Fn(u32) -> bool) -> Vec<(Option<u32>, usize)> {
        let mut rows = Vec::with_capacity(self.len());
        if self.cold {
            rows.push((None, self.start));
        }
        let mut known = 0;
        let timestamps = self.timeline.timestamps;
        for at in self.start + 1..self.end {
            known += u32::from(is_known(self.timeline.items[at - 1]));
            let tied = self.split == Split::Temporal && timestamps[at] == timestamps[at - 1];
            if known > 0 && !tied && is_ordered(self.split) {
                rows.push((Some(known - 1), at));
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::SeedableRng;

    use super::*;
    use crate::data::Timelines;

    fn example(rows: &[(u32, u32, i64)], place: usize) -> Example {
        Example { timelines: Arc::new(Timelines::of_rows(rows)), place }
    }

    fn draw(example: &Example, length: usize, split: Split, cold: f64) -> Window<'_> {
        Window::draw(example, length, split, cold, &mut ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn every_position_predicts_the_next() {
        let example = example(&[(0, 5, 1), (0, 6, 2), (0, 7, 3)], 0);
        let window = draw(&example, 10, Split::LeaveLastOut, 0.0);
        assert_eq!(window.inputs(), [5, 6]);
        assert_eq!(window.rows(|_| true), [(Some(0), 1), (Some(1), 2)]);
        assert_eq!(draw(&example, 10, Split::LeaveLastOut, 1.0).rows(|_| true)[0], (None, 0));
    }

    #[test]
    fn items_without_a_row_are_no_positions_but_can_be_found() {
        let example = example(&[(0, 5, 1), (0, 6, 2), (0, 7, 3), (0, 8, 4)], 0);
        let window = draw(&example, 10, Split::LeaveLastOut, 0.0);
        assert_eq!(window.rows(|item| item != 6), [(Some(0), 1), (Some(0), 2), (Some(1), 3)]);
    }

    #[test]
    fn what_happened_at_the_same_time_is_not_known_where_time_decides() {
        let example = example(&[(0, 5, 1), (0, 6, 2), (0, 7, 2)], 0);
        assert_eq!(draw(&example, 10, Split::Temporal, 0.0).rows(|_| true), [(Some(0), 1)]);
        assert_eq!(draw(&example, 10, Split::LeaveLastOut, 0.0).rows(|_| true).len(), 2);
        let target = Target { timeline: example.timelines.timeline(0), at: 2 };
        assert_eq!((target.known(Split::Temporal), target.known(Split::LeaveLastOut)), (&[5][..], &[5, 6][..]));
    }

    #[test]
    fn long_sequences_are_cut_anywhere() {
        let rows: Vec<(u32, u32, i64)> = (0..20).map(|i| (0, i, i64::from(i))).collect();
        let example = example(&rows, 0);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut starts: Vec<u32> = (0..200)
            .map(|_| Window::draw(&example, 4, Split::Temporal, 0.0, &mut rng).inputs())
            .map(|inputs| {
                assert_eq!(inputs.len(), 4);
                inputs[0]
            })
            .collect();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts, (0..16).collect::<Vec<_>>());
    }
}
