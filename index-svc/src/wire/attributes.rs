//! Attributes of items, and their declarations.

use std::{collections::BTreeMap, sync::Arc};

use pagoda_proto::index::v1 as proto;
use pagoda_server::status::Violation;

use super::{Violations, search::attribute_name};
use crate::{
    attributes::{ATTRIBUTE_BYTES_LIMIT, ATTRIBUTES_LIMIT, AttributeKind, Declarations, TEXTS_LIMIT},
    item::{Attributes, Item, Value},
};

pub(super) fn declarations(
    wrong: &mut Violations,
    path: &str,
    declared: Vec<proto::AttributeDeclaration>,
) -> Declarations {
    check_count(wrong, path, declared.len());
    let mut kinds = BTreeMap::new();
    for (n, attribute) in declared.into_iter().enumerate().take(ATTRIBUTES_LIMIT) {
        let path = format!("{path}[{n}]");
        let kind = match attribute.kind() {
            proto::AttributeKind::Text => Some(AttributeKind::Text),
            proto::AttributeKind::Integer => Some(AttributeKind::Integer),
            proto::AttributeKind::Number => Some(AttributeKind::Number),
            proto::AttributeKind::Unspecified => None,
        };
        wrong.check(kind.is_some(), &format!("{path}.kind"), || {
            format!("expected a kind of attribute, found {}", attribute.kind)
        });
        let name = attribute_name(wrong, &format!("{path}.name"), attribute.name);
        let again = kinds.insert(name.clone(), kind.unwrap_or(AttributeKind::Text)).is_some();
        wrong.check(!again, &format!("{path}.name"), || format!("`{name}` was given before"));
    }
    kinds.into_iter().collect()
}

pub(super) fn declarations_to_wire(declared: &Declarations) -> Vec<proto::AttributeDeclaration> {
    let declaration = |(name, kind): (&Arc<str>, AttributeKind)| {
        let kind = match kind {
            AttributeKind::Text => proto::AttributeKind::Text,
            AttributeKind::Integer => proto::AttributeKind::Integer,
            AttributeKind::Number => proto::AttributeKind::Number,
        };
        proto::AttributeDeclaration { name: name.to_string(), kind: kind.into() }
    };
    declared.iter().map(declaration).collect()
}

pub(super) fn of_item(wrong: &mut Violations, path: &str, attributes: Vec<proto::Attribute>) -> Attributes {
    check_count(wrong, path, attributes.len());
    let mut values = BTreeMap::new();
    for (n, attribute) in attributes.into_iter().enumerate().take(ATTRIBUTES_LIMIT) {
        let path = format!("{path}[{n}]");
        let name = attribute_name(wrong, &format!("{path}.name"), attribute.name);
        let Some(value) = value(wrong, &path, attribute.value) else { continue };
        let again = values.insert(name.clone(), value).is_some();
        wrong.check(!again, &format!("{path}.name"), || format!("`{name}` was given before"));
    }
    values.into_iter().collect()
}

/// Notes what the items have that is not declared.
pub(super) fn check_declared(wrong: &mut Violations, path: &str, items: &[(usize, Item)], declared: &Declarations) {
    for (n, item) in items {
        check_item(wrong, &format!("{path}[{n}]"), item, declared);
    }
}

pub(super) fn check_item(wrong: &mut Violations, path: &str, item: &Item, declared: &Declarations) {
    for (name, fault) in declared.faults(&item.attributes) {
        wrong.note(|| Violation::new(format!("{path}.attributes[{name:?}]"), fault()));
    }
}

fn value(wrong: &mut Violations, path: &str, value: Option<proto::attribute::Value>) -> Option<Value> {
    match value {
        Some(proto::attribute::Value::Texts(list)) => {
            Some(Value::Texts(texts(wrong, &format!("{path}.texts.texts"), list.texts)))
        }
        Some(proto::attribute::Value::Integer(integer)) => Some(Value::Integer(integer)),
        Some(proto::attribute::Value::Number(number)) => {
            wrong.check(number.is_finite(), &format!("{path}.number"), || {
                format!("expected a finite number, found {number}")
            });
            Some(Value::Number(number))
        }
        None => {
            wrong.add(format!("{path}.value"), "expected a value, found nothing");
            None
        }
    }
}

fn texts(wrong: &mut Violations, path: &str, texts: Vec<String>) -> Vec<Arc<str>> {
    let found = texts.len();
    wrong.check((1..=TEXTS_LIMIT).contains(&found), path, || {
        format!("expected 1 to {TEXTS_LIMIT} texts, found {found}")
    });
    let sizes = texts.iter().map(String::len).enumerate().take(TEXTS_LIMIT);
    for (n, found) in sizes.filter(|(_, found)| !(1..=ATTRIBUTE_BYTES_LIMIT).contains(found)) {
        let expected = || format!("expected 1 to {ATTRIBUTE_BYTES_LIMIT} bytes, found {found}");
        wrong.note(|| Violation::new(format!("{path}[{n}]"), expected()));
    }
    texts.into_iter().take(TEXTS_LIMIT).map(Into::into).collect()
}

fn check_count(wrong: &mut Violations, path: &str, found: usize) {
    wrong.check(found <= ATTRIBUTES_LIMIT, path, || {
        format!("expected at most {ATTRIBUTES_LIMIT} of them, found {found}")
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(wrong: Violations) -> Vec<String> {
        wrong.told().into_iter().map(|violation| violation.path).collect()
    }

    #[test]
    fn every_attribute_at_fault_is_named() {
        let attribute = |name: &str, value| proto::Attribute { name: name.into(), value };
        let texts = |texts: &[&str]| {
            let texts = texts.iter().map(|text| (*text).to_owned()).collect();
            Some(proto::attribute::Value::Texts(proto::TextList { texts }))
        };
        let mut wrong = Violations::default();
        let given = vec![
            attribute("tag", texts(&["a", "", &"x".repeat(129)])),
            attribute("none", texts(&[])),
            attribute("price", Some(proto::attribute::Value::Number(f64::NAN))),
            attribute("year", None),
            attribute("a\nb", Some(proto::attribute::Value::Integer(1))),
            attribute("tag", texts(&["b"])),
        ];
        of_item(&mut wrong, "items[0].attributes", given);
        let expected = [
            "[0].texts.texts[1]",
            "[0].texts.texts[2]",
            "[1].texts.texts",
            "[2].number",
            "[3].value",
            "[4].name",
            "[5].name",
        ];
        assert_eq!(paths(wrong), expected.map(|path| format!("items[0].attributes{path}")));
    }

    #[test]
    fn of_a_list_that_is_too_long_nothing_beyond_the_limit_is_taken() {
        let texts = proto::TextList { texts: vec![String::new(); 100 * TEXTS_LIMIT] };
        let given = proto::Attribute { name: "tag".into(), value: Some(proto::attribute::Value::Texts(texts)) };
        let mut wrong = Violations::default();
        let taken = of_item(&mut wrong, "a", vec![given]);
        assert!(matches!(taken.get("tag"), Some(Value::Texts(texts)) if texts.len() == TEXTS_LIMIT), "{taken:?}");
        assert_eq!(wrong.count(), 1 + TEXTS_LIMIT);
    }

    #[test]
    fn every_declaration_at_fault_is_named() {
        let declare = |name: &str, kind: i32| proto::AttributeDeclaration { name: name.into(), kind };
        let mut wrong = Violations::default();
        declarations(&mut wrong, "a", vec![declare("tag", 1), declare("x", 0), declare("", 2), declare("tag", 9)]);
        assert_eq!(paths(wrong), ["a[1].kind", "a[2].name", "a[3].kind", "a[3].name"]);
        let mut wrong = Violations::default();
        declarations(&mut wrong, "a", (0..=ATTRIBUTES_LIMIT).map(|n| declare(&n.to_string(), 1)).collect());
        assert_eq!(paths(wrong), ["a"]);
    }

    #[test]
    fn what_is_not_declared_so_is_named() {
        let declared =
            [("tag".into(), AttributeKind::Text), ("year".into(), AttributeKind::Integer)].into_iter().collect();
        let attributes = [
            ("tag".into(), Value::Integer(1)),
            ("other".into(), Value::Integer(1)),
            ("year".into(), Value::Integer(1)),
        ];
        let item = Item {
            id: crate::ids::ItemId::new("a").unwrap(),
            embedding: vec![1.0],
            attributes: attributes.into_iter().collect(),
        };
        let mut wrong = Violations::default();
        check_item(&mut wrong, "items[3]", &item, &declared);
        assert_eq!(paths(wrong), [r#"items[3].attributes["other"]"#, r#"items[3].attributes["tag"]"#]);
    }
}
