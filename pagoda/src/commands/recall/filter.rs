//! Conditions as a person writes them: `genre=Comedy,Drama`, `genre!="Sci-Fi, new"`, `year>=1990`.

use anyhow::{Context, Result, anyhow};
use pagoda_proto::filter::v1::{
    Bound, Condition, Filter, GroupLimit, Range, Value, Values, bound, condition::Test, value,
};
use unicode_width::UnicodeWidthStr;

use crate::output::shorten;

/// What stands between an attribute and its values; the longer ones first, since they begin with shorter ones.
const OPERATORS: [&str; 7] = ["==", "!=", ">=", "<=", "=", ">", "<"];
/// So many columns of a condition are shown where something is wrong with it.
const SHOWN: usize = 76;

/// What is wrong with a condition, and the byte where that begins.
#[derive(Debug)]
struct Fault {
    at: usize,
    why: String,
}

/// The rest of a condition that is still to be read.
struct Rest<'a> {
    text: &'a str,
    /// The byte of the condition that it begins at.
    at: usize,
}

/// All conditions together; none: no filter.
pub(super) fn filter(conditions: &[String]) -> Result<Option<Filter>> {
    let read =
        |text: &String| condition(text).map_err(|fault| anyhow!("--filter: {}{}", fault.why, pointed(text, fault.at)));
    let all = conditions.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok((!all.is_empty()).then_some(Filter { all }))
}

/// `ATTRIBUTE=N`.
pub(super) fn group_limit(text: &str) -> Result<GroupLimit> {
    let (attribute, max) = text.split_once('=').with_context(|| format!("--group-by {text}: expected ATTRIBUTE=N"))?;
    let max_per_group = max.parse().with_context(|| format!("--group-by {text}: expected a number, found `{max}`"))?;
    Ok(GroupLimit { attribute: attribute.to_owned(), max_per_group })
}

/// The condition, and below it a mark at the place; of one that is too long for a line, what begins at the place.
fn pointed(text: &str, at: usize) -> String {
    let (text, at) = if text.width() > SHOWN { (&text[at..], 0) } else { (text, at) };
    format!("\n  {}\n  {}^", shorten(text, SHOWN), " ".repeat(text[..at].width()))
}

fn condition(text: &str) -> Result<Condition, Fault> {
    // The first in the text; of those at one place the longest, which comes first.
    let first =
        OPERATORS.iter().filter_map(|operator| Some((text.find(operator)?, *operator))).min_by_key(|(at, _)| *at);
    let (at, operator) = first.ok_or_else(|| Fault {
        at: text.len(),
        why: "expected ATTRIBUTE=VALUE, or with !=, >=, >, <= or <".to_owned(),
    })?;
    let attribute = text[..at].trim();
    if attribute.is_empty() {
        return Err(Fault { at, why: format!("expected the name of an attribute before `{operator}`") });
    }
    let rest = Rest { text: &text[at + operator.len()..], at: at + operator.len() }.trimmed();
    if let Some(found) = rest.text.chars().next().filter(|c| "=!<>".contains(*c)) {
        return Err(Fault { at: rest.at, why: format!("expected a value after `{operator}`, found `{found}`") });
    }
    let test = match operator {
        "=" | "==" => Test::AnyOf(values(rest)?),
        "!=" => Test::NoneOf(values(rest)?),
        ">=" | ">" => Test::Range(Range { lower: Some(bound(rest, operator == ">")?), upper: None }),
        _ => Test::Range(Range { lower: None, upper: Some(bound(rest, operator == "<")?) }),
    };
    Ok(Condition { attribute: attribute.to_owned(), test: Some(test) })
}

impl<'a> Rest<'a> {
    /// Less the spaces that it begins with.
    fn trimmed(self) -> Self {
        let text = self.text.trim_start();
        Self { text, at: self.at + self.text.len() - text.len() }
    }

    fn after(&self, bytes: usize) -> Self {
        Self { text: &self.text[bytes..], at: self.at + bytes }
    }

    /// One value, and what follows it: a comma and more, or nothing.
    fn value(self) -> Result<(value::Value, Rest<'a>), Fault> {
        let rest = self.trimmed();
        if rest.text.starts_with('"') {
            let (text, rest) = rest.quoted()?;
            return Ok((value::Value::Text(text), rest.trimmed()));
        }
        let text = rest.text.split(',').next().unwrap_or_default();
        if let Some(at) = text.find('"') {
            let why = "a text with a double quote in it is written like \"5\\\" disk\"";
            return Err(Fault { at: rest.at + at, why: why.to_owned() });
        }
        let value = match text.trim() {
            "" => return Err(Fault { at: rest.at, why: "expected a value, found nothing".to_owned() }),
            text => plain(text),
        };
        Ok((value, rest.after(text.len())))
    }

    /// The text between the double quote that it begins with and the one that closes it, and what follows.
    fn quoted(self) -> Result<(String, Rest<'a>), Fault> {
        let mut text = String::new();
        let mut signs = self.text.char_indices().skip(1);
        while let Some((at, sign)) = signs.next() {
            match sign {
                '"' => return Ok((text, self.after(at + 1))),
                '\\' => match signs.next() {
                    Some((_, sign @ ('"' | '\\'))) => text.push(sign),
                    _ => {
                        let why = "within double quotes write \\\\ for a backslash and \\\" for a quote";
                        return Err(Fault { at: self.at + at, why: why.to_owned() });
                    }
                },
                sign => text.push(sign),
            }
        }
        Err(Fault { at: self.at, why: "a double quote is not closed".to_owned() })
    }
}

fn values(mut rest: Rest<'_>) -> Result<Values, Fault> {
    let mut values = Vec::new();
    loop {
        let (value, following) = rest.value()?;
        values.push(Value { value: Some(value) });
        match following.text.chars().next() {
            None => return Ok(Values { values }),
            Some(',') => rest = following.after(1),
            Some(_) => {
                let why = "expected a comma or the end after a value in double quotes".to_owned();
                return Err(Fault { at: following.at, why });
            }
        }
    }
}

/// A value without quotes: an integer or a number if it looks like one, else a text.
fn plain(text: &str) -> value::Value {
    match (text.parse(), finite(text)) {
        (Ok(integer), _) => value::Value::Integer(integer),
        (_, Some(number)) => value::Value::Number(number),
        _ => value::Value::Text(text.to_owned()),
    }
}

fn bound(rest: Rest<'_>, exclusive: bool) -> Result<Bound, Fault> {
    let value = match plain(rest.text.trim()) {
        value::Value::Integer(integer) => bound::Value::Integer(integer),
        value::Value::Number(number) => bound::Value::Number(number),
        value::Value::Text(text) => {
            return Err(Fault { at: rest.at, why: format!("expected a number, found `{text}`") });
        }
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
        assert_eq!(
            of(r#"a == "Sci-Fi, new" , B"#),
            ("a".into(), Test::AnyOf(values(&[text("Sci-Fi, new"), text("B")])))
        );
        assert_eq!(of(r#"a!=" \"x\" \\ ""#), ("a".into(), Test::NoneOf(values(&[text(r#" "x" \ "#)]))));
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
    fn what_is_no_condition_is_refused_and_said_why_and_where() {
        for (bad, why, mark) in [
            ("genre", "expected ATTRIBUTE=VALUE", "     ^"),
            ("=a", "name of an attribute", "^"),
            ("a=", "found nothing", "  ^"),
            ("a=b,,c", "found nothing", "    ^"),
            ("a=b, ", "found nothing", "     ^"),
            ("影=\"b", "not closed", "   ^"),
            ("a=\"b\"c", "a comma or the end", "     ^"),
            ("a=5\" disk", "with a double quote in it", "   ^"),
            ("a=\"b\\c\"", "for a backslash", "    ^"),
            ("a=>5", "found `>`", "  ^"),
            ("a===5", "found `=`", "   ^"),
            ("year>= new", "expected a number, found `new`", "       ^"),
            ("year>1,2", "expected a number, found `1,2`", "     ^"),
        ] {
            let error = filter(&[bad.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(why) && error.ends_with(&format!("\n  {bad}\n  {mark}")), "{error}");
        }
        let long = format!("genre={}\"b", "Drama,".repeat(20));
        assert!(filter(&[long]).unwrap_err().to_string().ends_with("not closed\n  \"b\n  ^"));
        assert!(group_limit("brand=many").is_err() && group_limit("brand").is_err());
    }
}
