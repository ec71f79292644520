//! Services that hang: no command waits for them for ever, and each says where it got no answer.

use std::{
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{Place, Service};

/// Much longer than the deadlines of these tests, much shorter than for ever.
const SOON: Duration = Duration::from_secs(20);

fn write_addresses(place: &Place, address: std::net::SocketAddr) {
    let addresses =
        json!({ "store": place.path("store"), "user_tower": address, "item_tower": address, "index": address });
    fs::write(place.path("hanging.json"), addresses.to_string()).unwrap();
}

#[test]
fn no_command_waits_for_services_that_accept_and_say_nothing() {
    let place = Place::with_model();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    write_addresses(&place, address);
    for (command, silent) in [
        (["status"].as_slice(), "user-tower-svc"),
        (&["models"], "user-tower-svc"),
        (&["generations", "--all"], "index-svc"),
        (&["recall", "--user", "u1"], "user-tower-svc"),
        (&["delete", "i1"], "index-svc"),
        (&["publish", "g"], "index-svc"),
        (&["rollback"], "index-svc"),
        (&["refresh", "--data", "data"], "index-svc"),
        (&["refresh", "--full", "--data", "data"], "item-tower-svc"),
    ] {
        let began = Instant::now();
        let message = place.refused(&[command, &["--addresses", "hanging.json", "--deadline-ms", "500"]].concat());
        let expected = format!("{silent} does not answer at {address}: nothing came within 500ms (--deadline-ms)");
        assert!(message.contains(&expected), "{command:?}: {message}");
        assert_eq!(message.contains("may be deleted all the same"), command[0] == "delete", "{command:?}: {message}");
        assert!(began.elapsed() < SOON, "{command:?} took {:?}", began.elapsed());
    }
}

#[test]
fn a_service_that_is_stopped_for_a_while_is_told_and_answers_afterwards() {
    let place = Place::with_model();
    let index = Service::start(&place, "index-svc", &[]);
    write_addresses(&place, index.address);
    let command = ["generations", "--addresses", "hanging.json", "--deadline-ms", "500"];
    place.ok(&command);
    index.signal("STOP");
    let began = Instant::now();
    let message = place.refused(&command);
    assert!(message.contains(&format!("index-svc does not answer at {}", index.address)), "{message}");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    index.signal("CONT");
    place.ok(&["generations", "--addresses", "hanging.json"]);
}

#[test]
fn a_service_that_waits_for_its_store_when_it_starts_leaves_when_it_is_told_to() {
    let place = Place::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for program in ["index-svc", "user-tower-svc", "item-tower-svc"] {
        let mut command = place.command(program);
        command.env("AWS_ENDPOINT", format!("http://{}", silent.local_addr().unwrap())).env("AWS_ALLOW_HTTP", "true");
        command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
        let service = Service::start_as(command, &place, program, &["store.url=s3://bucket/data"]);
        let began = Instant::now();
        service.stop();
        assert!(began.elapsed() < SOON / 4, "{program}: {:?}", began.elapsed());
    }
}
