//! S3.

use pagoda_commit_log::moto::{BUCKET, Moto};

use crate::{promises, run_again};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_create_an_object_one_wins() {
    let Some(server) = Moto::start() else { return };
    promises::of_those_who_create_an_object_one_wins(|prefix| server.store(prefix)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_appends_reads_checkpoints_and_cleans_up() {
    let Some(server) = Moto::start() else { return };
    promises::a_log_appends_reads_checkpoints_and_cleans_up(|prefix| server.store(prefix)).await;
}

#[tokio::test]
async fn a_large_object_goes_up_in_parts() {
    let Some(server) = Moto::start() else { return };
    promises::a_large_object_goes_up_in_parts(|options| server.store_with("data", options)).await;
}

#[tokio::test]
async fn opened_by_its_address_in_the_environment_of_the_process() {
    if std::env::var_os("AWS_ENDPOINT").is_none() {
        let Some(server) = Moto::start() else { return };
        return run_again("s3::opened_by_its_address_in_the_environment_of_the_process", server.environment());
    }
    promises::opened_by_its_address(&format!("s3://{BUCKET}/by/address"), "s3://no-such-bucket/x").await;
}
