//! What a person calls the fields of a request to recall: the flags that they came from.

use pagoda_proto::filter::v1::{Condition, Value, condition::Test, value};

use crate::cli::RecallArgs;

/// The flag that a field came from, by the field's path in the request; `conditions` are those of `--filter`, in its order. None: it came from none.
pub(super) fn flag(path: &str, args: &RecallArgs, conditions: &[Condition]) -> Option<String> {
    if let Some(("filter.all", place, rest)) = indexed(path) {
        let value = value_of(conditions.get(place)?, rest).map(|value| format!(", value {value}")).unwrap_or_default();
        return Some(format!("--filter {}{value}", quoted(args.filters.get(place)?)));
    }
    if let Some(("exclude_item_ids", place, _)) = indexed(path) {
        return Some(format!("--exclude {}", quoted(args.exclude.get(place)?)));
    }
    if path.starts_with("group_by.") {
        return Some(format!("--group-by {}", quoted(args.group_by.as_ref()?)));
    }
    let pairs =
        [("user.features", "--feature", &args.features), ("objective_weights", "--objective", &args.objectives)];
    for (field, flag, given) in pairs {
        let name = |pair: &String| pair.split_once('=').map_or(pair.as_str(), |(name, _)| name).to_owned();
        let is_it = |name: &String| path.starts_with(&format!("{field}[{name:?}]"));
        if let Some(name) = given.iter().map(name).find(is_it) {
            return Some(format!("{flag} {name}"));
        }
    }
    let alone = [
        ("k", "--k"),
        ("user.id", "--user"),
        ("filter.all", "--filter"),
        ("exclude_item_ids", "--exclude"),
        ("objective_weights", "--objective"),
    ];
    alone.iter().find(|(field, _)| *field == path).map(|(_, flag)| (*flag).to_owned())
}

/// `FIELD[PLACE]REST`.
fn indexed(path: &str) -> Option<(&str, usize, &str)> {
    let (field, rest) = path.split_once('[')?;
    let (place, rest) = rest.split_once(']')?;
    Some((field, place.parse().ok()?, rest))
}

/// The value of a condition that the rest of its path names, and how it would be written were it meant as a text.
fn value_of(condition: &Condition, rest: &str) -> Option<String> {
    let (Test::AnyOf(list) | Test::NoneOf(list)) = condition.test.as_ref()? else { return None };
    let (_, place, _) = indexed(rest)?;
    let Value { value } = list.values.get(place)?;
    Some(match value.as_ref()? {
        value::Value::Text(text) => format!("`{text}`"),
        value::Value::Integer(integer) => format!("`{integer}` (as a text: \"{integer}\")"),
        value::Value::Number(number) => format!("`{number}` (as a text: \"{number}\")"),
    })
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn fields_are_called_by_their_flags() {
        let given = ["--filter", "year>1", "--filter", "genre=Comedy,5", "--exclude", "i'1", "--group-by", "brand=2"];
        let more = ["--feature", "region=north", "--objective", "buy=-1"];
        let line = [["pagoda", "recall", "--user", "u"].as_slice(), &given, &more].concat();
        let Command::Recall(args) = Cli::parse_from(line).command else { unreachable!() };
        let filter = super::super::filter::filter(&args.filters).unwrap().unwrap();
        for (path, expected) in [
            ("filter.all[0].range.lower", "--filter 'year>1'"),
            ("filter.all[1].attribute", "--filter 'genre=Comedy,5'"),
            ("filter.all[1].any_of.values[0]", "--filter 'genre=Comedy,5', value `Comedy`"),
            ("filter.all[1].any_of.values[1]", "--filter 'genre=Comedy,5', value `5` (as a text: \"5\")"),
            ("filter.all", "--filter"),
            ("group_by.attribute", "--group-by 'brand=2'"),
            ("exclude_item_ids[0]", r"--exclude 'i'\''1'"),
            ("k", "--k"),
            ("user.id", "--user"),
            ("user.features[\"region\"].text", "--feature region"),
            ("objective_weights[\"buy\"]", "--objective buy"),
            ("objective_weights", "--objective"),
        ] {
            assert_eq!(flag(path, &args, &filter.all).as_deref(), Some(expected));
        }
        for other in ["filter.all[2].attribute", "user.features[\"other\"]", "exclude_item_ids[7]", "min_lsn", ""] {
            assert_eq!(flag(other, &args, &filter.all), None);
        }
    }
}
