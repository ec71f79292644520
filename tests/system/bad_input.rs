//! Bad files, columns, schemas and configs: a message that names them, a non-zero exit, and nothing written.

use std::fs;

use crate::harness::Place;

#[test]
fn a_missing_data_directory_is_named() {
    let place = Place::new();
    assert!(place.refused(&["train", "--data", "nowhere", "--store", "store"]).contains("nowhere"));
    assert!(!place.path("store").exists());
}

#[test]
fn a_malformed_schema_names_its_key_and_nothing_is_registered() {
    let place = Place::new();
    place.ok(&["generate", "--out", "data", "--users", "100", "--items", "200", "--impressions", "5000"]);
    let path = place.path("data/schema.toml");
    let schema = fs::read_to_string(&path).unwrap();
    fs::write(&path, schema.replacen("\"categorical\"", "\"categorrical\"", 1)).unwrap();
    let message = place.refused(&["train", "--data", "data", "--store", "store"]);
    assert!(message.contains("schema.toml") && message.contains("categorrical"), "{message}");
    assert!(!place.path("store").exists());
}

#[test]
fn a_malformed_log_names_the_file_the_row_and_the_column() {
    let place = Place::new();
    fs::write(place.path("clicks.csv"), "user_id,item_id,timestamp\na,x,1\nb,y,2\n").unwrap();
    place.ok(&["import", "csv", "clicks.csv", "--out", "data"]);
    fs::write(place.path("clicks.csv"), "user_id,item,timestamp\na,x,1\n".replace("item", "shoe")).unwrap();
    let message = place.refused(&["import", "csv", "clicks.csv", "--out", "other"]);
    assert!(message.contains("clicks.csv") && message.contains("shoe"), "{message}");
    fs::write(
        place.path("clicks.csv"),
        "user_id,item_id,timestamp\na,x,yesterday\n".to_owned() + &"a,x,never\n".repeat(50),
    )
    .unwrap();
    let message = place.refused(&["import", "csv", "clicks.csv", "--out", "other"]);
    assert!(message.contains("timestamp") && message.contains("yesterday") && message.contains("row"), "{message}");
    assert!(!place.path("other").exists(), "nothing was written");
}

#[test]
fn an_import_leaves_an_edited_schema_and_says_how_to_replace_it() {
    let place = Place::new();
    fs::write(place.path("stars.csv"), "user,item,stars,time\na,x,5,1\nb,y,1,2\n").unwrap();
    let said = place.ok(&["import", "csv", "stars.csv", "--out", "data"]);
    assert!(said.contains("1 of them positive") && said.contains("ratings from 3.5 on are positive"), "{said}");
    fs::write(place.path("clicks.csv"), "user,item,stars,event,time\na,x,5,click,1\n").unwrap();
    let clicks = ["import", "csv", "clicks.csv", "--out", "data"];
    let message = place.refused(&clicks);
    assert!(message.contains("data/schema.toml") && message.contains("--replace-schema"), "{message}");
    let said = place.ok(&[clicks.as_slice(), &["--replace-schema"]].concat());
    assert!(said.contains("note: columns that were not read: stars"), "{said}");
}

#[test]
fn generated_data_replaces_nothing_but_generated_data() {
    let place = Place::new();
    let generate = ["generate", "--out", "data", "--users", "100", "--items", "200", "--impressions", "5000"];
    place.ok(&generate);
    place.ok(&generate);
    fs::write(place.path("data/notes.txt"), "kept").unwrap();
    let refused = place.refused(&generate);
    assert!(refused.contains("`notes.txt`"), "{refused}");
    fs::remove_file(place.path("data/notes.txt")).unwrap();
    fs::remove_file(place.path("data/world.toml")).unwrap();
    let refused = place.refused(&generate);
    assert!(refused.contains("was not generated") && place.path("data/schema.toml").exists(), "{refused}");
}

#[test]
fn an_unknown_format_lists_those_there_are() {
    let place = Place::new();
    let message = place.refused(&["import", "movielens-xml", ".", "--out", "data"]);
    assert!(message.contains("movielens-dat") && message.contains("sequences"), "{message}");
}

#[test]
fn a_bad_training_config_names_its_keys() {
    let place = Place::with_model();
    fs::write(place.path("bad.toml"), "[training]\nepochs = 0\nepocs = 3\n").unwrap();
    let message = place.refused(&["train", "--data", "data", "--store", "other", "--config", "bad.toml"]);
    assert!(message.contains("bad.toml") && message.contains("epocs"), "{message}");
    fs::write(place.path("bad.toml"), "[training]\nepochs = 0\n").unwrap();
    let message = place.refused(&["train", "--data", "data", "--store", "other", "--config", "bad.toml"]);
    assert!(message.contains("epochs"), "{message}");
    assert!(!place.path("other").exists());
}

#[test]
fn services_refuse_a_bad_config_with_exit_code_64() {
    let place = Place::new();
    for program in ["user-tower-svc", "item-tower-svc", "index-svc"] {
        let output = place.command(program).args(["--set", "lissten.address=127.0.0.1:0"]).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{program}: {message}");
        assert!(message.contains("lissten"), "{program}: {message}");
    }
}

#[test]
fn commands_that_only_read_refuse_a_store_that_is_not_there() {
    let place = Place::with_model();
    let evaluate = ["evaluate", "--data", "data", "--store"];
    let mine = ["mine", "--data", "data", "--out", "hard.parquet", "--store"];
    let file = format!("file://{}", place.path("nowhere").display());
    for args in [evaluate.as_slice(), &mine] {
        for store in ["nowhere", &file] {
            let message = place.refused(&[args, &[store]].concat());
            assert!(message.contains("nowhere") && message.contains("pagoda train"), "{message}");
        }
    }
    assert!(!place.path("nowhere").exists());
}

#[test]
fn commands_without_services_say_how_to_start_them() {
    let place = Place::new();
    let message = place.refused(&["recall", "--user", "1"]);
    assert!(message.contains("pagoda up"), "{message}");
}

#[test]
fn a_corrupted_bundle_is_refused() {
    let place = Place::with_model();
    let blobs = place.path("store/blobs");
    for blob in fs::read_dir(blobs).unwrap() {
        let path = blob.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let message = place.refused(&["evaluate", "--data", "data", "--store", "store"]);
    assert!(message.contains("digest"), "{message}");
}
