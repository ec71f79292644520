//! [`Timelines`]: some users' rows in time, from which examples are drawn and histories cut.

use super::{Part, rows::Row};

/// A row's timeline is looked for from that of a row at most so far before it.
const STRIDE: usize = 16;

/// Timelines of some users, by user; each has rows, oldest first, ties in the order of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Timelines {
    /// Ascending.
    users: Vec<u32>,
    /// Where each timeline's rows begin, and where the last one's end.
    first_rows: Vec<usize>,
    /// Of every [`STRIDE`]th row, the timeline that it belongs to.
    owners: Vec<u32>,
    items: Vec<u32>,
    timestamps: Vec<i64>,
    events: Vec<u8>,
    parts: Vec<Part>,
}

/// One user's rows, oldest first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Timeline<'a> {
    pub(crate) user: u32,
    /// The number of its first row among all rows of its [`Timelines`].
    pub(crate) first_row: usize,
    pub(crate) items: &'a [u32],
    pub(crate) timestamps: &'a [i64],
    /// Places in the weights of events.
    pub(crate) events: &'a [u8],
    pub(crate) parts: &'a [Part],
}

impl Timelines {
    /// Of rows sorted by (user, time).
    pub(super) fn of_sorted(rows: &[Row]) -> Self {
        let mut timelines = Self::with_capacity(rows.len());
        rows.iter().for_each(|row| timelines.push(row));
        timelines.finish()
    }

    /// Of training rows of (user, item, time), sorted by user and time.
    #[cfg(test)]
    pub(crate) fn of_rows(rows: &[(u32, u32, i64)]) -> Self {
        let row = |&(user, item, timestamp)| Row { user, item, timestamp, event: 0, part: Part::Train };
        Self::of_sorted(&rows.iter().map(row).collect::<Vec<_>>())
    }

    /// How many users have rows here.
    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    /// How many rows all of them have.
    pub(crate) fn rows(&self) -> usize {
        self.items.len()
    }

    /// The timeline of a number below [`Self::len`].
    pub(crate) fn timeline(&self, n: usize) -> Timeline<'_> {
        let rows = self.first_rows[n]..self.first_rows[n + 1];
        Timeline {
            user: self.users[n],
            first_row: rows.start,
            items: &self.items[rows.clone()],
            timestamps: &self.timestamps[rows.clone()],
            events: &self.events[rows.clone()],
            parts: &self.parts[rows],
        }
    }

    /// All timelines, by user.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Timeline<'_>> {
        (0..self.len()).map(|n| self.timeline(n))
    }

    /// The number of the timeline that a row belongs to.
    pub(crate) fn owner(&self, row: usize) -> usize {
        let mut owner = self.owners[row / STRIDE] as usize;
        while self.first_rows[owner + 1] <= row {
            owner += 1;
        }
        owner
    }

    /// A row by its number.
    #[cfg(test)]
    pub(crate) fn row(&self, row: usize) -> Row {
        Row {
            user: self.users[self.owner(row)],
            item: self.items[row],
            timestamp: self.timestamps[row],
            event: self.events[row],
            part: self.parts[row],
        }
    }

    /// The number of a user's timeline; None where the user has no row here.
    pub(crate) fn of_user(&self, user: u32) -> Option<usize> {
        // Where all users are here, a user's place is the timeline's number.
        let direct = user as usize;
        if self.users.get(direct) == Some(&user) { Some(direct) } else { self.users.binary_search(&user).ok() }
    }

    /// The rows of some parts alone; users who have none of them are not there.
    pub(crate) fn retain(&self, keep: impl Fn(Part) -> bool) -> Self {
        let kept = self.parts.iter().filter(|&&part| keep(part)).count();
        let mut timelines = Self::with_capacity(kept);
        for timeline in self.iter() {
            timeline.rows().filter(|row| keep(row.part)).for_each(|row| timelines.push(&row));
        }
        timelines.finish()
    }

    /// Says anew, timeline by timeline, of which part each row is.
    pub(super) fn mark(&mut self, mut mark: impl FnMut(Timeline<'_>, &mut [Part])) {
        let mut parts = self.parts.clone();
        for timeline in self.iter() {
            let rows = timeline.first_row..timeline.first_row + timeline.items.len();
            mark(timeline, &mut parts[rows]);
        }
        self.parts = parts;
    }

    fn with_capacity(rows: usize) -> Self {
        Self {
            users: Vec::new(),
            first_rows: Vec::new(),
            owners: Vec::new(),
            items: Vec::with_capacity(rows),
            timestamps: Vec::with_capacity(rows),
            events: Vec::with_capacity(rows),
            parts: Vec::with_capacity(rows),
        }
    }

    fn push(&mut self, row: &Row) {
        if self.users.last() != Some(&row.user) {
            self.users.push(row.user);
            self.first_rows.push(self.items.len());
        }
        self.items.push(row.item);
        self.timestamps.push(row.timestamp);
        self.events.push(row.event);
        self.parts.push(row.part);
    }

    fn finish(mut self) -> Self {
        self.first_rows.push(self.items.len());
        let mut owner = 0;
        self.owners.reserve_exact(self.items.len().div_ceil(STRIDE));
        for row in (0..self.items.len()).step_by(STRIDE) {
            while self.first_rows[owner + 1] <= row {
                owner += 1;
            }
            self.owners.push(owner as u32);
        }
        self
    }
}

impl<'a> Timeline<'a> {
    /// The items of rows strictly before a time: what shares the timestamp is not yet known.
    pub(crate) fn before(&self, timestamp: i64) -> &'a [u32] {
        &self.items[..self.timestamps.partition_point(|&t| t < timestamp)]
    }

    /// The rows, oldest first.
    pub(crate) fn rows(self) -> impl Iterator<Item = Row> + 'a {
        (0..self.items.len()).map(move |i| Row {
            user: self.user,
            item: self.items[i],
            timestamp: self.timestamps[i],
            event: self.events[i],
            part: self.parts[i],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timelines() -> Timelines {
        let row = |(user, item, timestamp)| {
            let part = if item == 13 { Part::Test } else { Part::Train };
            Row { user, item, timestamp, event: 1, part }
        };
        Timelines::of_sorted(&[(2, 10, 1), (2, 11, 2), (2, 12, 2), (2, 13, 3), (5, 20, 1), (7, 13, 9)].map(row))
    }

    #[test]
    fn a_history_has_nothing_of_its_own_time_or_later() {
        let timelines = timelines();
        let first = timelines.timeline(0);
        assert_eq!((first.user, first.before(2)), (2, &[10][..]));
        assert_eq!(first.before(3), [10, 11, 12]);
        assert_eq!(first.before(1), [0; 0]);
    }

    #[test]
    fn rows_know_their_timeline_and_users_theirs() {
        let timelines = timelines();
        assert_eq!((timelines.len(), timelines.rows()), (3, 6));
        assert_eq!((0..6).map(|row| timelines.owner(row)).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 2]);
        assert_eq!(
            [2, 5, 7, 0, 6, 8].map(|user| timelines.of_user(user)),
            [Some(0), Some(1), Some(2), None, None, None]
        );
        for row in 0..6 {
            let timeline = timelines.timeline(timelines.owner(row));
            assert_eq!(timeline.rows().nth(row - timeline.first_row), Some(timelines.row(row)));
        }
    }

    #[test]
    fn what_is_not_kept_is_unknown_and_users_without_rows_are_not_there() {
        let train = timelines().retain(|part| part == Part::Train);
        assert_eq!((train.len(), train.rows(), train.of_user(7)), (2, 4, None));
        assert_eq!(train.timeline(0).items, [10, 11, 12]);
        assert_eq!(timelines().retain(|part| part == Part::Validation), Timelines::of_sorted(&[]));
        assert_eq!(timelines().retain(|_| true), timelines());
    }
}
