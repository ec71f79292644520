//! Which items each user had: a sparse matrix of zeros and ones, filled user by user.

/// The most items of one user, the newest: the pairs of a user's items are counted, and they grow with the square.
const ITEMS_PER_USER_MAX: usize = 2000;

/// A compressed sparse matrix, `[users, catalog]`: user u's items are `items[offsets[u]..offsets[u + 1]]`, ascending and distinct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserItems {
    offsets: Vec<usize>,
    items: Vec<u32>,
    catalog: usize,
}

impl UserItems {
    /// Without users yet, over a catalog of so many items.
    pub(crate) fn new(catalog: usize) -> Self {
        Self { offsets: vec![0], items: Vec::new(), catalog }
    }

    /// Appends a user with these places in the catalog, oldest first; the newest [`ITEMS_PER_USER_MAX`] count, repeats once.
    ///
    /// # Panics
    /// If a place is outside the catalog.
    pub(crate) fn push(&mut self, items: &[u32]) {
        let start = self.items.len();
        self.items.extend_from_slice(&items[items.len().saturating_sub(ITEMS_PER_USER_MAX)..]);
        self.items[start..].sort_unstable();
        if let Some(&last) = self.items[start..].last() {
            assert!((last as usize) < self.catalog, "item {last} is outside a catalog of {}", self.catalog);
        }
        self.drop_repeats_from(start);
        self.offsets.push(self.items.len());
    }

    fn drop_repeats_from(&mut self, start: usize) {
        let mut end = start;
        for at in start..self.items.len() {
            if end == start || self.items[end - 1] != self.items[at] {
                self.items[end] = self.items[at];
                end += 1;
            }
        }
        self.items.truncate(end);
    }

    /// How many items there are.
    pub(crate) fn catalog(&self) -> usize {
        self.catalog
    }

    /// How many users there are.
    pub(crate) fn users(&self) -> usize {
        self.offsets.len() - 1
    }

    /// A user's items, ascending.
    pub(crate) fn of(&self, user: usize) -> &[u32] {
        &self.items[self.offsets[user]..self.offsets[user + 1]]
    }

    /// How many users had each item, `[catalog]`.
    pub(crate) fn user_counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.catalog];
        self.items.iter().for_each(|&item| counts[item as usize] += 1);
        counts
    }

    /// `[catalog, users]`: whose the items were.
    pub(super) fn transposed(&self) -> Self {
        let mut offsets = Vec::with_capacity(self.catalog + 1);
        offsets.push(0);
        for count in self.user_counts() {
            offsets.push(offsets[offsets.len() - 1] + count as usize);
        }
        let mut next = offsets.clone();
        let mut users = vec![0; self.items.len()];
        for user in 0..self.users() {
            for &item in self.of(user) {
                users[next[item as usize]] = user as u32;
                next[item as usize] += 1;
            }
        }
        Self { offsets, items: users, catalog: self.users() }
    }

    /// The same users with the items renamed by `place`, `[catalog]`; `None` leaves an item out. The new names keep the order of
    /// the old ones.
    pub(super) fn renamed(&self, place: &[Option<u32>], catalog: usize) -> Self {
        let mut renamed = Self::new(catalog);
        for user in 0..self.users() {
            renamed.items.extend(self.of(user).iter().filter_map(|&item| place[item as usize]));
            renamed.offsets.push(renamed.items.len());
        }
        renamed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_sorted_distinct_and_the_newest() {
        let mut users = UserItems::new(3000);
        users.push(&[5, 1, 5, 2]);
        users.push(&[]);
        users.push(&(0..2500).rev().collect::<Vec<_>>());
        assert_eq!((users.users(), users.of(0), users.of(1)), (3, &[1, 2, 5][..], &[][..]));
        assert_eq!(users.of(2), (0..2000).collect::<Vec<_>>());
    }

    #[test]
    fn transposing_twice_changes_nothing() {
        let mut users = UserItems::new(4);
        [&[0, 3][..], &[], &[1, 2, 3]].iter().for_each(|items| users.push(items));
        let items = users.transposed();
        assert_eq!((items.of(3), items.of(0), items.catalog()), (&[0, 2][..], &[0][..], 3));
        assert_eq!(items.transposed(), users);
        assert_eq!(users.user_counts(), [1, 1, 1, 2]);
    }

    #[test]
    #[should_panic(expected = "item 4 is outside a catalog of 4")]
    fn an_item_outside_the_catalog_is_refused() {
        UserItems::new(4).push(&[4]);
    }
}
