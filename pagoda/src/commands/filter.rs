//! Conditions as a person writes them: `genre=Comedy,Drama`, `genre!=War`, `year>=1990`.

use anyhow::{Context, Result, bail, ensure};
use pagoda_proto::filter::v1::{
    Bound, Condition, Filter, GroupLimit, Range, Value, Values, bound, condition::Test, value,
};

/// What stands between an attribute and its values; the longer ones first, since they begin with shorter ones.
const OPERATORS: [&str; 6] = ["!=", ">=", "<=", "=", ">", "<"];

/// All conditions together; none: no filter.
pub(crate) fn filter(conditions: &[String]) -> Result<Option<Filter>> {
    let all = conditions.iter().map(|text| condition(text).with_context(|| format!("--filter {text}")));
    let all = all.collect::<Result<Vec<_>>>()?;
    Ok((!all.is_empty()).then_some(Filter { all }))
}

/// `ATTRIBUTE=N`.
pub(crate) fn group_limit(text: &str) -> Result<GroupLimit> {
    let (attribute, max) = text.split_once('=').with_context(|| format!("--group-by {text}: expected ATTRIBUTE=N"))?;
    let max_per_group = max.parse().with_context(|| format!("--group-by {text}: expected a number, found `{max}`"))?;
    Ok(GroupLimit { attribute: attribute.to_owned(), max_per_group })
}

fn condition(text: &str) -> Result<Condition> {
    // The first in the text; of those at one place the longest, which comes first.
    let first =
        OPERATORS.iter().filter_map(|operator| Some((text.find(operator)?, *operator))).min_by_key(|(at, _)| *at);
    let (at, operator) = first.context("expected ATTRIBUTE=VALUE, or with !=, >=, >, <= or <")?;
    let (attribute, rest) = (text[..at].trim(), text[at + operator.len()..].trim());
    ensure!(!attribute.is_empty(), "expected the name of an attribute before `{operator}`");
    let bound = |exclusive| bound_of(rest, exclusive).map(Some);
    let test = match operator {
        "=" => Test::AnyOf(values(rest)?),
        "!=" => Test::NoneOf(values(rest)?),
        ">=" | ">" => Test::Range(Range { lower: bound(operator == ">")?, upper: None }),
        _ => Test::Range(Range { lower: None, upper: bound(operator == "<")? }),
    };
    Ok(Condition { attribute: attribute.to_owned(), test: Some(test) })
}

fn values(text: &str) -> Result<Values> {
    let values = split(text)?.into_iter().map(|text| value_of(&text)).collect::<Result<_>>()?;
    Ok(Values { values })
}

/// At the commas that are not within quotes.
fn split(text: &str) -> Result<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        quoted ^= c == '"';
        match parts.last_mut() {
            Some(part) if c != ',' || quoted => part.push(c),
            _ => parts.push(String::new()),
        }
    }
    ensure!(!quoted, "a double quote is not closed");
    Ok(parts)
}

fn value_of(text: &str) -> Result<Value> {
    let text = text.trim();
    let value = match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => value::Value::Text(quoted.to_owned()),
        None if text.is_empty() => bail!("expected a value, found nothing"),
        None => match (text.parse(), finite(text)) {
            (Ok(integer), _) => value::Value::Integer(integer),
            (_, Some(number)) => value::Value::Number(number),
            _ => value::Value::Text(text.to_owned()),
        },
    };
    Ok(Value { value: Some(value) })
}

fn bound_of(text: &str, exclusive: bool) -> Result<Bound> {
    let value = match (text.parse(), finite(text)) {
        (Ok(integer), _) => bound::Value::Integer(integer),
        (_, Some(number)) => bound::Value::Number(number),
        _ => bail!("expected a number, found `{text}`"),
    };
    Ok(Bound { value: Some(value), exclusive })
}

/// `inf` and `nan` are words here.
fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (String, Test) {
        let condition = condition(text).unwrap();
        (condition.attribute, condition.test.unwrap())
    }

    fn values(values: &[value::Value]) -> Values {
        Values { values: values.iter().map(|value| Value { value: Some(value.clone()) }).collect() }
    }

    #[test]
    fn conditions_are_read_as_they_are_written() {
        let text = |text: &str| value::Value::Text(text.into());
        assert_eq!(of("genre=Comedy, Drama"), ("genre".into(), Test::AnyOf(values(&[text("Comedy"), text("Drama")]))));
        assert_eq!(of("genre!=War"), ("genre".into(), Test::NoneOf(values(&[text("War")]))));
        assert_eq!(
            of("a=1,2.5,nan"),
            ("a".into(), Test::AnyOf(values(&[value::Value::Integer(1), value::Value::Number(2.5), text("nan")])))
        );
        assert_eq!(of(r#"a="1","b,c=d""#), ("a".into(), Test::AnyOf(values(&[text("1"), text("b,c=d")]))));
        let bound = |value, exclusive| Some(Bound { value: Some(value), exclusive });
        let range = |lower, upper| Test::Range(Range { lower, upper });
        assert_eq!(of("year>=1990"), ("year".into(), range(bound(bound::Value::Integer(1990), false), None)));
        assert_eq!(of("year > 1990"), ("year".into(), range(bound(bound::Value::Integer(1990), true), None)));
        assert_eq!(of("price<9.5"), ("price".into(), range(None, bound(bound::Value::Number(9.5), true))));
        assert_eq!(of("price<=-1"), ("price".into(), range(None, bound(bound::Value::Integer(-1), false))));
        assert_eq!(filter(&[]).unwrap(), None);
        assert_eq!(group_limit("brand=2").unwrap(), GroupLimit { attribute: "brand".into(), max_per_group: 2 });
    }

    #[test]
    fn what_is_no_condition_is_refused_and_said_why() {
        for (bad, why) in [
            ("genre", "expected ATTRIBUTE=VALUE"),
            ("=a", "name of an attribute"),
            ("a=", "found nothing"),
            ("a=b,,c", "found nothing"),
            ("a=\"b", "not closed"),
            ("year>=new", "expected a number, found `new`"),
        ] {
            assert!(format!("{:#}", filter(&[bad.to_owned()]).unwrap_err()).contains(why), "{bad}");
        }
        assert!(group_limit("brand=many").is_err() && group_limit("brand").is_err());
    }
}
