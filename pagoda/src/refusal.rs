//! What a service refuses, as a message for a person: in words, not in codes and paths of the contract.

use anyhow::anyhow;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const UNDECLARED: &str = "
an attribute can be filtered and grouped by once schema.toml says
`filterable = true` of its feature and `pagoda refresh --full` has run";

/// A refusal in words: every field at fault, else its message.
pub(crate) fn refusal(status: &Status) -> anyhow::Error {
    refusal_of(status, |_| None)
}

/// The same, where `named` knows what a person calls a field by its path in the request: the flag that it came from, say.
pub(crate) fn refusal_of(status: &Status, named: impl Fn(&str) -> Option<String>) -> anyhow::Error {
    let faults = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    if let Some(info) = status.get_details_error_info().filter(|info| info.reason == "SPACE_NOT_HELD") {
        let held = info.metadata.get("spaces_held").filter(|held| !held.is_empty()).map_or("none", String::as_str);
        return anyhow!(
            "the index has no items of the newest model yet (embedding spaces it has: {held}); \
             run `pagoda refresh --full --data DIR` first"
        );
    }
    if faults.is_empty() {
        return anyhow!("{}", in_words(status));
    }
    let hint = if faults.iter().any(|v| is_attribute(&v.field)) { UNDECLARED } else { "" };
    let line = |field: &str, why: &str| format!("\n  {}: {why}", named(field).unwrap_or_else(|| field.to_owned()));
    let lines: Vec<String> = faults.iter().map(|v| line(&v.field, &v.description)).collect();
    anyhow!("the request is wrong:{}{hint}", lines.concat())
}

/// Whether a field names an attribute that items are filtered or grouped by.
fn is_attribute(path: &str) -> bool {
    (path.starts_with("filter.") || path.starts_with("group_by.")) && path.ends_with(".attribute")
}

/// A status without details. Our services' messages are sentences, so that most codes need no words of their own.
fn in_words(status: &Status) -> String {
    let said = match status.message() {
        "" => "the service does not say why",
        message => message,
    };
    match status.code() {
        Code::Unavailable => format!("not available for the moment: {said}"),
        Code::Internal | Code::DataLoss => format!("a fault of the service, of which its log may say more: {said}"),
        Code::Unimplemented => format!("the service does not know this call, is it of an older version? {said}"),
        Code::PermissionDenied | Code::Unauthenticated => format!("no permission: {said}"),
        _ => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn before_the_first_refresh_it_is_said_what_to_run() {
        let details = ErrorDetails::with_error_info(
            "SPACE_NOT_HELD",
            "pagoda",
            HashMap::from([("spaces_held".to_owned(), String::new())]),
        );
        let message = refusal(&Status::with_error_details(Code::FailedPrecondition, "not held", details)).to_string();
        assert!(message.contains("it has: none") && message.contains("pagoda refresh --full"), "{message}");
    }

    fn at_fault(field: &str) -> Status {
        let details = ErrorDetails::with_bad_request_violation(field, "no");
        Status::with_error_details(Code::InvalidArgument, "no", details)
    }

    #[test]
    fn of_an_attribute_that_is_not_declared_it_is_said_how_it_would_be() {
        let refused = |field: &str| refusal(&at_fault(field)).to_string();
        assert!(refused("filter.all[3].attribute").ends_with(UNDECLARED));
        assert!(refused("group_by.attribute").ends_with(UNDECLARED));
        assert!(!refused("filter.all[3].any_of.values[0]").contains("filterable"));
    }

    #[test]
    fn fields_are_called_what_a_person_calls_them() {
        let named = |path: &str| (path == "k").then(|| "--k".to_owned());
        assert_eq!(refusal_of(&at_fault("k"), named).to_string(), "the request is wrong:\n  --k: no");
        assert_eq!(refusal_of(&at_fault("other"), named).to_string(), "the request is wrong:\n  other: no");
    }

    #[test]
    fn codes_are_told_in_words() {
        for code in 1..=16 {
            let code = Code::from_i32(code);
            let told = refusal(&Status::new(code, "why it is so")).to_string();
            assert!(told.ends_with("why it is so") && !told.contains(&format!("{code:?}")), "{told}");
        }
        assert!(refusal(&Status::new(Code::Internal, "")).to_string().ends_with("does not say why"));
    }
}
