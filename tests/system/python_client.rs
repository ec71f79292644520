//! The Python example: a grpcio client made from the proto files calls Recall, health and reflection.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::harness::{Place, Up};

/// A Python with the packages of `examples/python/requirements.txt`; `make test` sets it.
const PYTHON: &str = "PAGODA_TEST_PYTHON";

#[test]
fn a_python_client_calls_recall_health_and_reflection() {
    let Ok(python) = std::env::var(PYTHON) else {
        eprintln!("skipped: {PYTHON} names no Python; `make test` sets it");
        return;
    };
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python/recall_client.py");
    let address = up.user_tower.to_string();
    let mut command = Command::new(python);
    let output =
        command.arg(client).args(["--user-tower", &address, "--user", "u1", "--k", "5", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(reply["candidates"].as_array().unwrap().len(), 5);
    assert_eq!(reply["health"], "SERVING");
    let services: Vec<&str> = reply["services"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(services.contains(&"pagoda.recall.v1.RecallService"), "{services:?}");
    up.stop();
}
