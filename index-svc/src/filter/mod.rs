//! Which items may be found: [`Filter`] as a caller wrote it, [`Predicate`] once it is checked against what is declared, [`Resolved`] for the
//! columns of some rows.

mod bind;
mod resolved;

use std::sync::Arc;

pub use self::{
    bind::{Predicate, Wanted},
    resolved::{GroupKey, Groups, Members, Resolved, Step},
};
use crate::item::Value;

/// The most conditions of a filter.
pub const CONDITIONS_LIMIT: usize = 32;
/// The most values of a condition.
pub const VALUES_LIMIT: usize = 1000;
/// The most items that may share a value.
pub const GROUP_LIMIT: usize = 1000;

/// Conditions that an item must all meet; none: every item may be found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// The conditions.
    pub all: Vec<Condition>,
}

/// One condition on one attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The attribute.
    pub attribute: Arc<str>,
    /// What is asked of its values.
    pub test: Test,
}

/// What is asked of an item's values. An item without the attribute meets `NoneOf` alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// At least one is among these; each holds one text, an integer or a number.
    AnyOf(Vec<Value>),
    /// None is among these.
    NoneOf(Vec<Value>),
    /// It lies within.
    Range(Range),
}

/// A range of integers or numbers; an absent bound is no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// Where it begins.
    pub lower: Option<Bound>,
    /// Where it ends.
    pub upper: Option<Bound>,
}

/// An end of a range.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// An integer or a number.
    pub value: Value,
    /// Whether the value itself lies outside.
    pub exclusive: bool,
}

/// At most so many items that share a value of an attribute; an item without the attribute is a group of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLimit {
    /// The attribute.
    pub attribute: Arc<str>,
    /// So many items, at least 1.
    pub max: usize,
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::item::Attributes;

    fn text(tag: u8) -> Value {
        Value::Texts(vec![format!("t{tag}").into()])
    }

    fn range(lower: Option<(Value, bool)>, upper: Option<(Value, bool)>) -> Test {
        let bound = |(value, exclusive)| Bound { value, exclusive };
        Test::Range(Range { lower: lower.map(bound), upper: upper.map(bound) })
    }

    fn condition() -> impl Strategy<Value = Condition> {
        let number = || (-8i8..8).prop_map(|n| Value::Number(f64::from(n) / 4.0));
        let integer = || (1988i64..1998).prop_map(Value::Integer);
        let either = |(none, values)| if none { Test::NoneOf(values) } else { Test::AnyOf(values) };
        let values = |value| (any::<bool>(), prop::collection::vec(value, 1..4));
        let bound = |value| prop::option::of((value, any::<bool>()));
        prop_oneof![
            values((0u8..7).prop_map(text).boxed()).prop_map(move |v| ("tag", either(v))),
            values(integer().boxed()).prop_map(move |v| ("year", either(v))),
            values(number().boxed()).prop_map(move |v| ("price", either(v))),
            (bound(integer().boxed()), bound(integer().boxed())).prop_map(|(a, b)| ("year", range(a, b))),
            (bound(number().boxed()), bound(number().boxed())).prop_map(|(a, b)| ("price", range(a, b))),
        ]
        .prop_map(|(attribute, test)| Condition { attribute: attribute.into(), test })
    }

    /// Any filter on the attributes that tests declare.
    pub(crate) fn filter() -> impl Strategy<Value = Filter> {
        prop::collection::vec(condition(), 0..4).prop_map(|all| Filter { all })
    }

    /// The definition, as plainly as it can be written.
    pub(crate) fn meets(filter: &Filter, attributes: &Attributes) -> bool {
        filter.all.iter().all(|Condition { attribute, test }| {
            let value = attributes.get(attribute);
            match test {
                Test::AnyOf(values) => value.is_some_and(|value| values.iter().any(|other| shares(value, other))),
                Test::NoneOf(values) => !value.is_some_and(|value| values.iter().any(|other| shares(value, other))),
                Test::Range(Range { lower, upper }) => value.is_some_and(|value| {
                    lower
                        .as_ref()
                        .is_none_or(|b| number(value) > number(&b.value) || !b.exclusive && shares(value, &b.value))
                        && upper
                            .as_ref()
                            .is_none_or(|b| number(value) < number(&b.value) || !b.exclusive && shares(value, &b.value))
                }),
            }
        })
    }

    fn shares(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Texts(a), Value::Texts(b)) => a.iter().any(|text| b.contains(text)),
            _ => number(a) == number(b),
        }
    }

    fn number(value: &Value) -> f64 {
        match value {
            Value::Integer(n) => *n as f64,
            Value::Number(n) => *n,
            Value::Texts(_) => unreachable!(),
        }
    }
}
