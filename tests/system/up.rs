//! `pagoda up`: what it says and does when a service ends, or cannot begin.

use std::process::Output;

use crate::harness::{Place, Up};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_service_that_is_killed_is_named_and_the_others_are_drained() {
    for (killed, others) in
        [("user-tower-svc", ["index-svc", "item-tower-svc"]), ("index-svc", ["user-tower-svc", "item-tower-svc"])]
    {
        let place = Place::with_model();
        let mut up = Up::start(&place);
        let status = up.kill_service(killed);
        let log = up.log();
        assert_eq!(status.code(), Some(1), "{log}");
        let end = log.split_once("error: ").unwrap_or_else(|| panic!("{log}")).1;
        assert!(end.starts_with(&format!("{killed} was killed by signal 9")), "{log}");
        assert!(end.contains(&format!("[{killed}]")), "it says where its last lines are: {log}");
        for other in others {
            let drained = |line: &&str| {
                line.starts_with(&format!("[{other}] "))
                    && (line.contains("draining") || line.contains("stopped before it served"))
            };
            assert!(log.lines().any(|line| drained(&line)), "{other} was not drained: {log}");
            assert!(!end.contains(&format!("{other} ")), "{log}");
        }
    }
}

#[test]
fn a_store_that_cannot_be_used_is_told_before_anything_listens() {
    let place = Place::new();
    for store in ["/proc/no/such", "ftp://host/x"] {
        let output = place.run(&["up", "--store", store]);
        let said = said(&output);
        assert!(!output.status.success() && said.contains(store) && !said.contains("listening"), "{said}");
    }
    let data = ["generate", "--out", "data", "--users", "100", "--items", "200", "--impressions", "5000"];
    place.ok(&data);
    let refused = place.refused(&["train", "--data", "data", "--store", "/proc/no/such"]);
    assert!(refused.contains("/proc/no/such") && !refused.contains("train: "), "before it is trained: {refused}");
}

#[test]
fn a_bucket_without_credentials_names_the_variables_that_give_them() {
    let place = Place::new();
    let mut command = place.command("pagoda");
    command.args(["up", "--store", "s3://bucket/prefix"]);
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        command.env_remove(variable);
    }
    // Where nothing listens.
    command.env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1");
    let output = command.output().unwrap();
    let said = said(&output);
    assert!(!output.status.success() && said.contains("s3://bucket/prefix"), "{said}");
    assert!(said.contains("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (docs/operations.md)"), "{said}");
}

#[test]
fn services_are_not_given_one_address_for_all() {
    let place = Place::new();
    let refused = place.refused(&["up", "--store", "store", "--set", "listen.address=127.0.0.1:7999"]);
    assert!(refused.contains("`--set index-svc.listen.address=HOST:PORT`"), "{refused}");
    assert!(!place.path("store").exists());
    Up::start_with(&place, |command| {
        command.args(["--set", "listen.address=127.0.0.1:0"]);
    })
    .stop();
}
