//! [`Journal`]: what clients know of the items: the acknowledged writes, and what an item may be where no answer came.

use super::catalog::{ITEMS, Value};

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Absent,
    Value(Value),
}

/// What is written to some items, of which each is named once.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Upsert(Vec<(u32, Value)>),
    Delete(Vec<u32>),
}

/// An acknowledged write of one item.
#[derive(Debug)]
struct Entry {
    lsn: u64,
    item: u32,
    held: Held,
}

/// What is known of one item.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// What it may be: what was acknowledged last, then what was written since without an answer. Never empty.
    pub(super) may_be: Vec<Held>,
    /// The newest value that anybody gave it.
    pub(super) newest: Value,
    /// The position of the write that was acknowledged last; 0: none was.
    acknowledged_lsn: u64,
}

/// All that clients wrote.
#[derive(Debug)]
pub(super) struct Journal {
    /// Every acknowledged write.
    entries: Vec<Entry>,
    items: Vec<Item>,
    /// The highest position acknowledged.
    head: u64,
}

impl Journal {
    /// Nothing is there.
    pub(super) fn new() -> Self {
        let nothing = Item { may_be: vec![Held::Absent], newest: 0, acknowledged_lsn: 0 };
        Self { entries: Vec::new(), items: vec![nothing; ITEMS as usize], head: 0 }
    }

    /// To be noted before a write is sent: a catalog that is read from then on contains it, as does one of whoever writes to an index what its own database has.
    pub(super) fn intend(&mut self, write: &Write) {
        for (item, held) in write.items() {
            let item = &mut self.items[item as usize];
            item.may_be.push(held);
            if let Held::Value(value) = held {
                item.newest = value;
            }
        }
    }

    /// A write was acknowledged. Positions of one item's writes rise, for they are made one after the other.
    pub(super) fn acknowledge(&mut self, write: &Write, lsn: u64) {
        self.head = self.head.max(lsn);
        for (number, held) in write.items() {
            let item = &mut self.items[number as usize];
            let before = std::mem::replace(&mut item.acknowledged_lsn, lsn);
            assert!(before < lsn, "a write of item {number} was acknowledged at {lsn}, the one before it at {before}");
            item.may_be = vec![held];
            self.entries.push(Entry { lsn, item: number, held });
        }
    }

    /// A position of something else than a write was acknowledged.
    pub(super) fn reached(&mut self, lsn: u64) {
        self.head = self.head.max(lsn);
    }

    pub(super) fn head(&self) -> u64 {
        self.head
    }

    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    /// The acknowledged writes of an item, in their order.
    pub(super) fn history(&self, item: u32) -> String {
        let own = self.entries.iter().filter(|entry| entry.item == item);
        own.map(|entry| format!("{}: {:?}", entry.lsn, entry.held)).collect::<Vec<_>>().join(", ")
    }

    /// The items and values that there are if every write that was begun succeeds.
    pub(super) fn catalog(&self) -> Vec<(u32, Value)> {
        let wanted = |(number, item): (usize, &Item)| match item.may_be.last() {
            Some(Held::Value(value)) => Some((number as u32, *value)),
            _ => None,
        };
        self.items.iter().enumerate().filter_map(wanted).collect()
    }

    /// The items of which it is not known what they are.
    pub(super) fn uncertain(&self) -> Vec<u32> {
        (0..ITEMS).filter(|item| self.items[*item as usize].may_be.len() > 1).collect()
    }

    /// A write that gives each of these a new value.
    pub(super) fn new_values(&self, items: &[u32]) -> Write {
        Write::Upsert(items.iter().map(|item| (*item, self.items[*item as usize].newest + 1)).collect())
    }
}

impl Write {
    /// The items, and what they become.
    pub(super) fn items(&self) -> Vec<(u32, Held)> {
        match self {
            Self::Upsert(items) => items.iter().map(|(item, value)| (*item, Held::Value(*value))).collect(),
            Self::Delete(items) => items.iter().map(|item| (*item, Held::Absent)).collect(),
        }
    }
}

impl Item {
    /// Whether it is certainly there, and whether it may be.
    pub(super) fn is_there(&self) -> (bool, bool) {
        let there = |held: &Held| *held != Held::Absent;
        (self.may_be.iter().all(there), self.may_be.iter().any(there))
    }
}
