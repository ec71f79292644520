//! The store and the log over buckets as real clients speak to them: S3 by moto's server, Azure Blob Storage by Azurite. Where `$PAGODA_TEST_PYTHON`
//! or `$PAGODA_TEST_AZURITE` is not set, its tests skip and say so.

#![allow(clippy::unwrap_used)]

mod azure;
mod promises;
mod s3;

/// Runs one test of this program again, as a process with more in its environment.
fn run_again<const N: usize>(test: &str, environment: [(&'static str, String); N]) {
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    assert!(again.args(["--exact", test]).envs(environment).status().unwrap().success());
}
