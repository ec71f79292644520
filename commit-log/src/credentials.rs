//! Where a bucket was opened without credentials, its client asks the machine for some. Of the call that fails then a person knows nothing; of the
//! variables that would have given some, perhaps.

use std::{error::Error, iter};

/// What stands in a failure of the machine's metadata service.
const METADATA_CALLS: [&str; 4] =
    ["/latest/api/token", "/latest/meta-data/", "/computeMetadata/", "/metadata/identity/"];

/// No credentials were given, and it is these variables that would give some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotGiven(pub(crate) &'static str);

impl NotGiven {
    /// None where any of the sources of credentials has a value. A switch that is off has the value `false`.
    pub(crate) fn unless_any(sources: impl Iterator<Item = Option<String>>, variables: &'static str) -> Option<Self> {
        let given = sources.flatten().any(|value| value != "false");
        (!given).then_some(Self(variables))
    }

    /// Whether a call failed for that. One that got no reply in time does not say what it waited for: where none ever got one, it may have been this.
    pub(crate) fn is_why(self, error: &object_store::Error, never_answered: bool) -> bool {
        let mut causes = iter::successors(Some(error as &dyn Error), |&cause| cause.source());
        never_answered || causes.any(|cause| METADATA_CALLS.iter().any(|call| cause.to_string().contains(call)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_asks_the_machine_for_credentials_is_told_from_others() {
        let is_why = |why: &str, never_answered| {
            let error = object_store::Error::Generic { store: "S3", source: why.into() };
            NotGiven("AWS_ACCESS_KEY_ID").is_why(&error, never_answered)
        };
        assert!(is_why("Error performing PUT http://169.254.169.254/latest/api/token in 10s", false));
        assert!(is_why("no reply within 15s", true));
        assert!(!is_why("Server returned 503", false));
    }
}
