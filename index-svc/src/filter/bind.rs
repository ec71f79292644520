//! [`Predicate`]: a filter whose every condition fits what is declared.

use std::sync::Arc;

use pagoda_server::status::Violation;

use super::{Bound, Condition, Filter, GroupLimit, Range, Test};
use crate::{
    attributes::{AttributeKind, Declarations, Key},
    item::Value,
};

/// The greatest integers that are numbers, each its own.
const EXACT_INTEGER_MAX: i64 = 1 << 53;

/// Conditions that an item must all meet, each of its attribute's kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predicate {
    conditions: Vec<(Arc<str>, bool, Wanted)>,
}

/// The values that a condition wants, or does not want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// These texts.
    Texts(Vec<Arc<str>>),
    /// These integers or numbers; ascending.
    Keys(Vec<Key>),
    /// From the first to the last, both included; nothing if they are the wrong way round.
    Range(Key, Key),
}

impl Predicate {
    /// Whether every item meets it.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// The conditions: the attribute, whether its values must not be among the wanted ones, and these.
    pub(super) fn conditions(&self) -> impl Iterator<Item = (&Arc<str>, bool, &Wanted)> {
        self.conditions.iter().map(|(attribute, none, wanted)| (attribute, *none, wanted))
    }

    #[cfg(test)]
    pub(crate) fn of_integers(attribute: &str, integers: &[i64]) -> Self {
        let keys = integers.iter().copied().map(Key::of_integer).collect();
        Self { conditions: vec![(attribute.into(), false, Wanted::Keys(keys))] }
    }
}

impl Filter {
    /// Checks a filter against what is declared; names everything that does not fit by its path.
    pub fn bind(&self, declarations: &Declarations) -> Result<Predicate, Vec<Violation>> {
        let mut faults = Vec::new();
        let conditions: Vec<_> = (0..)
            .zip(&self.all)
            .filter_map(|(n, condition)| condition.bind(&format!("filter.all[{n}]"), declarations, &mut faults))
            .collect();
        if faults.is_empty() { Ok(Predicate { conditions }) } else { Err(faults) }
    }
}

impl GroupLimit {
    /// Checks that the attribute is declared.
    pub fn check(&self, declarations: &Declarations) -> Result<(), Violation> {
        match declarations.kind(&self.attribute) {
            Some(_) => Ok(()),
            None => Err(Violation::new("group_by.attribute", declarations.not_declared(&self.attribute))),
        }
    }
}

impl Condition {
    fn bind(
        &self,
        path: &str,
        declarations: &Declarations,
        faults: &mut Vec<Violation>,
    ) -> Option<(Arc<str>, bool, Wanted)> {
        let Some(kind) = declarations.kind(&self.attribute) else {
            faults.push(Violation::new(format!("{path}.attribute"), declarations.not_declared(&self.attribute)));
            return None;
        };
        let (none, wanted) = match &self.test {
            Test::AnyOf(values) => (false, wanted(&format!("{path}.any_of.values"), kind, values, faults)),
            Test::NoneOf(values) => (true, wanted(&format!("{path}.none_of.values"), kind, values, faults)),
            Test::Range(range) => (false, range.bind(&format!("{path}.range"), kind, faults)?),
        };
        Some((self.attribute.clone(), none, wanted))
    }
}

impl Range {
    fn bind(&self, path: &str, kind: AttributeKind, faults: &mut Vec<Violation>) -> Option<Wanted> {
        if kind == AttributeKind::Text {
            faults.push(Violation::new(
                path,
                "expected values instead of a range, since the attribute is declared as texts",
            ));
            return None;
        }
        let mut key = |bound: &Option<Bound>, end: &str| match bound {
            None => Some(None),
            Some(Bound { value, exclusive }) => {
                let key = key(value, kind).map_err(|why| faults.push(Violation::new(format!("{path}.{end}"), why)));
                key.ok().map(|key| Some((key, *exclusive)))
            }
        };
        let (lower, upper) = (key(&self.lower, "lower"), key(&self.upper, "upper"));
        let nothing = (Key(i64::MAX), Key(i64::MIN));
        let first = match lower? {
            None => Some(Key(i64::MIN)),
            Some((key, true)) => key.next(),
            Some((key, false)) => Some(key),
        };
        let last = match upper? {
            None => Some(Key(i64::MAX)),
            Some((key, true)) => key.previous(),
            Some((key, false)) => Some(key),
        };
        let (first, last) = first.zip(last).unwrap_or(nothing);
        Some(Wanted::Range(first, last))
    }
}

/// The values that fit; the others are noted.
fn wanted(path: &str, kind: AttributeKind, values: &[Value], faults: &mut Vec<Violation>) -> Wanted {
    let mut fitting = |n: usize, why: String| faults.push(Violation::new(format!("{path}[{n}]"), why));
    if kind == AttributeKind::Text {
        let mut texts = Vec::with_capacity(values.len());
        for (n, value) in values.iter().enumerate() {
            match value {
                Value::Texts(of) => texts.extend(of.iter().cloned()),
                Value::Integer(_) | Value::Number(_) => fitting(n, expected(kind)),
            }
        }
        texts.sort_unstable();
        texts.dedup();
        return Wanted::Texts(texts);
    }
    let mut keys = Vec::with_capacity(values.len());
    for (n, value) in values.iter().enumerate() {
        match key(value, kind) {
            Ok(key) => keys.push(key),
            Err(why) => fitting(n, why),
        }
    }
    keys.sort_unstable();
    keys.dedup();
    Wanted::Keys(keys)
}

fn key(value: &Value, kind: AttributeKind) -> Result<Key, String> {
    match (kind, value) {
        (AttributeKind::Integer, Value::Integer(integer)) => Ok(Key::of_integer(*integer)),
        (AttributeKind::Number, Value::Number(number)) => Ok(Key::of_number(*number)),
        (AttributeKind::Number, Value::Integer(integer)) if integer.unsigned_abs() <= EXACT_INTEGER_MAX as u64 => {
            Ok(Key::of_number(*integer as f64))
        }
        (AttributeKind::Number, Value::Integer(integer)) => {
            Err(format!("{integer} is not exactly a number; as the attribute is declared as a number, give one"))
        }
        _ => Err(expected(kind)),
    }
}

fn expected(kind: AttributeKind) -> String {
    match kind {
        AttributeKind::Text => "expected a text, as the attribute is declared".into(),
        kind => format!("expected {kind}, as the attribute is declared"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_does_not_fit_is_named() {
        let declared =
            [("tag", AttributeKind::Text), ("year", AttributeKind::Integer), ("price", AttributeKind::Number)];
        let declared = declared.map(|(name, kind)| (Arc::from(name), kind)).into_iter().collect();
        let text = || Value::Texts(vec!["a".into()]);
        let bound = |value| Some(Bound { value, exclusive: false });
        let condition = |attribute: &str, test| Condition { attribute: attribute.into(), test };
        let range = |lower, upper| Test::Range(Range { lower, upper });
        let all = vec![
            condition("tag", Test::AnyOf(vec![text(), Value::Integer(1)])),
            condition("colour", Test::AnyOf(vec![text()])),
            condition("year", Test::NoneOf(vec![Value::Number(1.0), Value::Integer(1), text()])),
            condition("tag", range(bound(Value::Integer(1)), None)),
            condition("year", range(bound(Value::Number(1.5)), bound(text()))),
            condition("price", Test::AnyOf(vec![Value::Integer(1), Value::Integer((1 << 53) + 1)])),
        ];
        let paths: Vec<_> = Filter { all }.bind(&declared).unwrap_err().into_iter().map(|v| v.path).collect();
        let expected = [
            "filter.all[0].any_of.values[1]",
            "filter.all[1].attribute",
            "filter.all[2].none_of.values[0]",
            "filter.all[2].none_of.values[2]",
            "filter.all[3].range",
            "filter.all[4].range.lower",
            "filter.all[4].range.upper",
            "filter.all[5].any_of.values[1]",
        ];
        assert_eq!(paths, expected);
        let group = GroupLimit { attribute: "colour".into(), max: 1 };
        assert_eq!(group.check(&declared).unwrap_err().path, "group_by.attribute");
    }
}
