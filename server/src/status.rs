//! Building and reading `tonic::Status` with google.rpc details: bad fields by path, reasons, when to try again.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The domain of all our ErrorInfo reasons.
pub const DOMAIN: &str = "pagoda.dev";

/// The details travel in a header as base64, the message percent-encoded, and peers drop a reply whose headers are long: gRPC's C core at random from 8 KiB
/// on, and always from 16 KiB. So there are at most so many violations,
const VIOLATIONS_LIMIT: usize = 32;
/// each of at most so many characters of path and of description,
const TEXT_LIMIT: usize = 120;
/// all of them of so many bytes,
const VIOLATIONS_BYTES_MAX: usize = 2800;
/// and of each protobuf's tags and lengths,
const VIOLATION_BYTES: usize = 8;
/// and a message of so many bytes as it is sent.
const MESSAGE_BYTES_MAX: usize = 2400;

/// One field at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, e.g. `user.features["price"].number`.
    pub path: String,
    /// What was expected and found.
    pub description: String,
}

impl Violation {
    /// A field at fault.
    pub fn new(path: impl Into<String>, description: impl Into<String>) -> Self {
        Self { path: path.into(), description: description.into() }
    }
}

/// INVALID_ARGUMENT naming every field at fault, in its details and, shortened, in its message.
pub fn invalid_argument(violations: &[Violation]) -> Status {
    let mut room = VIOLATIONS_BYTES_MAX;
    let fits = |field: &FieldViolation| {
        let bytes = field.field.len() + field.description.len() + VIOLATION_BYTES;
        room.checked_sub(bytes).inspect(|left| room = *left).is_some()
    };
    let mut fields: Vec<_> = violations.iter().take(VIOLATIONS_LIMIT).map(field_violation).take_while(fits).collect();
    if let Some(more) = violations.len().checked_sub(fields.len()).filter(|&more| more > 0) {
        fields.push(FieldViolation::new("", format!("and {more} more")));
    }
    let shown: Vec<_> = fields.iter().take(5).map(|f| format!("{}: {}", f.field, f.description)).collect();
    let more = if fields.len() > shown.len() { "; ..." } else { "" };
    let message = format!("{}{more}", shown.join("; "));
    Status::with_error_details(Code::InvalidArgument, sendable(&message), ErrorDetails::with_bad_request(fields))
}

/// A status with an ErrorInfo: the reason for programs, the message for people.
pub fn with_reason<'a>(
    code: Code,
    message: impl Into<String>,
    reason: &str,
    metadata: impl IntoIterator<Item = (&'a str, String)>,
) -> Status {
    let metadata: HashMap<String, String> = metadata.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Status::with_error_details(code, sendable(&message.into()), ErrorDetails::with_error_info(reason, DOMAIN, metadata))
}

/// A status with a reason and the time after which trying again may help.
pub fn retryable(code: Code, message: impl Into<String>, reason: &str, retry_after: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    details.set_retry_info(Some(retry_after));
    Status::with_error_details(code, sendable(&message.into()), details)
}

/// The reason of a status that a peer of ours sent, and its metadata.
pub fn reason_of(status: &Status) -> Option<(String, HashMap<String, String>)> {
    let info = status.get_details_error_info()?;
    (info.domain == DOMAIN).then_some((info.reason, info.metadata))
}

/// The fields at fault that a status names.
pub fn violations_of(status: &Status) -> Vec<Violation> {
    let fields = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    fields.into_iter().map(|f| Violation::new(f.field, f.description)).collect()
}

fn field_violation(violation: &Violation) -> FieldViolation {
    FieldViolation::new(shortened(&violation.path), shortened(&violation.description))
}

/// A message, shortened where it would be too long as it is sent: what is not printable ASCII takes three bytes for each of its own.
fn sendable(message: &str) -> String {
    let cost = |sign: char| if matches!(sign, ' '..='~') && sign != '%' { 1 } else { 3 * sign.len_utf8() };
    let mut costs = message.char_indices().scan(0, |sum, (place, sign)| {
        *sum += cost(sign);
        Some((place, *sum))
    });
    match costs.find(|(_, sum)| *sum > MESSAGE_BYTES_MAX) {
        Some((end, _)) => format!("{}...", &message[..end]),
        None => message.to_owned(),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_LIMIT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_and_reasons_read_back() {
        let violation = Violation::new("k", "expected 1 to 1000, found 0");
        assert_eq!(violations_of(&invalid_argument(std::slice::from_ref(&violation))), [violation]);
        let status = with_reason(Code::FailedPrecondition, "no", "SPACE_NOT_HELD", [("spaces_held", "a,b".to_owned())]);
        let (reason, metadata) = reason_of(&status).unwrap();
        assert_eq!((reason.as_str(), metadata["spaces_held"].as_str()), ("SPACE_NOT_HELD", "a,b"));
        assert!(reason_of(&Status::internal("x")).is_none());
    }

    #[test]
    fn a_thousand_long_violations_still_fit_a_header() {
        let violations: Vec<_> =
            (0..1000).map(|i| Violation::new(format!("items[{i}].{}", "x".repeat(999)), "y".repeat(999))).collect();
        let chinese: Vec<_> = (0..20).map(|i| Violation::new(format!("items[{i}]"), "项".repeat(999))).collect();
        for (violations, all) in [(violations, 1000), (chinese, 20)] {
            let status = invalid_argument(&violations);
            // What a gRPC client is sent, as HTTP/2 counts it.
            let reply = status.clone().into_http::<()>();
            let bytes = |(name, value): (&http::HeaderName, &http::HeaderValue)| name.as_str().len() + value.len() + 32;
            let sent: usize = reply.headers().iter().map(bytes).sum();
            assert!(sent < 8 * 1024 - 512, "{sent}");
            let named = violations_of(&status);
            assert_eq!(named.last().unwrap().description, format!("and {} more", all - (named.len() - 1)));
            assert!(named.len() > 5, "{}", named.len());
        }
        let long = with_reason(Code::Internal, "说".repeat(5000), "X", []);
        assert!(long.into_http::<()>().headers()["grpc-message"].len() <= MESSAGE_BYTES_MAX + 3);
    }
}
