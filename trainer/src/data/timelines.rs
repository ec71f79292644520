//! [`Timelines`]: each user's positives in time, from which histories are cut.

use super::Positive;

/// Each user's positives, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Timelines {
    offsets: Vec<u32>,
    items: Vec<u32>,
    timestamps: Vec<i64>,
}

impl Timelines {
    /// Of positives sorted by time, of which `keep` says which are known.
    pub(crate) fn new(positives: &[Positive], users: usize, keep: impl Fn(&Positive) -> bool) -> Self {
        let mut offsets = vec![0_u32; users + 1];
        let kept = || positives.iter().filter(|p| keep(p));
        kept().for_each(|p| offsets[p.user as usize + 1] += 1);
        (0..users).for_each(|u| offsets[u + 1] += offsets[u]);
        let mut next = offsets.clone();
        let total = offsets[users] as usize;
        let (mut items, mut timestamps) = (vec![0; total], vec![0; total]);
        for positive in kept() {
            let at = next[positive.user as usize] as usize;
            next[positive.user as usize] += 1;
            (items[at], timestamps[at]) = (positive.item, positive.timestamp);
        }
        Self { offsets, items, timestamps }
    }

    /// All items of a user, oldest first.
    pub(crate) fn all(&self, user: u32) -> &[u32] {
        let user = user as usize;
        &self.items[self.offsets[user] as usize..self.offsets[user + 1] as usize]
    }

    /// The items of a user strictly before a time, oldest first: what shares the timestamp is not yet known.
    pub(crate) fn before(&self, user: u32, timestamp: i64) -> &[u32] {
        let first = self.offsets[user as usize] as usize;
        let times = &self.timestamps[first..first + self.all(user).len()];
        &self.all(user)[..times.partition_point(|&t| t < timestamp)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timelines() -> Timelines {
        let rows = [(0, 10, 1), (1, 20, 1), (0, 11, 2), (0, 12, 2), (0, 13, 3)];
        let positives =
            rows.map(|(user, item, timestamp)| Positive { user, item, timestamp, weight: 1.0, test: item == 13 });
        Timelines::new(&positives, 3, |p| !p.test)
    }

    #[test]
    fn a_history_has_nothing_of_its_own_time_or_later() {
        assert_eq!(timelines().before(0, 2), [10]);
        assert_eq!(timelines().before(0, 3), [10, 11, 12]);
        assert_eq!(timelines().before(0, 1), [0; 0]);
    }

    #[test]
    fn what_is_not_kept_is_unknown_and_users_may_be_empty() {
        assert_eq!(timelines().all(0), [10, 11, 12]);
        assert_eq!(timelines().all(2), [0; 0]);
    }
}
