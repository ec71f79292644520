//! A small data directory as text, to be written in parts or spoilt.

use std::{fs, path::Path};

use pagoda_dataset::{Dataset, DatasetError};
use tempfile::TempDir;

pub(crate) const SCHEMA: &str = r#"
[user]
id = "user_id"
[[user.feature]]
name = "region"
kind = "categorical"
[[user.feature]]
name = "history"
kind = "sequence"
max_length = 3

[item]
id = "item_id"
title = "title"
[[item.feature]]
name = "item_id"
kind = "id"
[[item.feature]]
name = "tags"
kind = "categorical_list"
[[item.feature]]
name = "title"
kind = "text"
[[item.feature]]
name = "price"
kind = "numeric"
[[item.feature]]
name = "vector"
kind = "dense"
dim = 2
"#;

pub(crate) const ITEMS: &str = "item_id,title,price,tags,vector\n\
    a,\"One, two\",1.5,red|blue,0.5 1\n\
    b,,,,\n\
    c,Three,3,red,1|2\n";
pub(crate) const USERS: &str = "user_id,region\nu1,north\nu2,\n";
pub(crate) const LOG: &str = "user_id,item_id,timestamp,event\n\
    u1,a,30,click\n\
    u1,b,10,click\n\
    u2,c,20,impression\n\
    u3,c,20,click\n";

/// Writes files, given by name and content, into a new directory.
pub(crate) fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

/// The data directory, with one file replaced or added.
pub(crate) fn dataset_with(name: &str, content: &[u8]) -> TempDir {
    let files = [("schema.toml", SCHEMA), ("items.csv", ITEMS), ("users.csv", USERS), ("interactions.csv", LOG)];
    let dir = directory(&files.map(|(name, text)| (name, text.as_bytes())));
    fs::write(dir.path().join(name), content).unwrap();
    dir
}

pub(crate) fn open(dir: &Path) -> Result<Dataset, DatasetError> {
    Dataset::open(dir)
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
