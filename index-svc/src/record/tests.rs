use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::item::{Attributes, Value};

fn model() -> ModelVersion {
    ModelVersion { space: "00000000000000aa".parse().unwrap(), revision: 3 }
}

fn generation() -> GenerationId {
    "00000000000000aa-3-x".parse().unwrap()
}

fn write() -> impl Strategy<Value = Write> {
    let id = || "[a-zé ]{1,20}".prop_map(|id| ItemId::new(&id).unwrap());
    let item = (id(), prop::collection::vec(-1.0f32..1.0, 0..9), attributes());
    let item = item.prop_map(|(id, embedding, attributes)| Item { id, embedding, attributes });
    prop_oneof![
        prop::collection::vec(item, 0..5).prop_map(|items| Write::Upsert { model: model(), items }),
        prop::collection::vec(id(), 0..5).prop_map(Write::Delete),
    ]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let value = prop_oneof![
        prop::collection::vec("[a-z]{0,5}".prop_map(Arc::from), 0..3).prop_map(Value::Texts),
        any::<i64>().prop_map(Value::Integer),
        (-1e9f64..1e9).prop_map(Value::Number),
    ];
    prop::collection::btree_map("[a-z]{1,5}".prop_map(Arc::from), value, 0..3)
        .prop_map(|values| values.into_iter().collect())
}

fn batch() -> impl Strategy<Value = Batch> {
    let request_id = prop::option::of("[a-z0-9]{1,64}".prop_map(|id| id.parse().unwrap()));
    (request_id, write()).prop_map(|(request_id, write)| Batch { request_id, write })
}

proptest! {
    #[test]
    fn what_is_written_is_read(batches in prop::collection::vec(batch(), 0..4)) {
        let commit = Commit::Writes(batches);
        prop_assert_eq!(Commit::decode(commit.encode()), Ok(commit));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Commit::decode(bytes.into());
    }
}

#[test]
fn publications_and_rollbacks_are_read_as_they_were_written() {
    let plain = Publication::unconditional(generation(), model(), Lsn(7));
    let conditional = Publication {
        embedding_dim: 64,
        expected: Expected::Generation(generation()),
        publishable_until: Some(Lsn(99)),
        retained_count: 0,
        compacted: true,
        forced_by: Some("someone".into()),
        ..plain.clone()
    };
    let rollback = Rollback { space: model().space, generation: generation(), expected: Expected::Nothing };
    for commit in [Commit::Publish(plain), Commit::Publish(conditional), Commit::Rollback(rollback)] {
        assert_eq!(Commit::decode(commit.encode()), Ok(commit));
    }
}

#[test]
fn what_older_programs_understand_in_full_is_written_for_them() {
    let id = ItemId::new("x").unwrap();
    let delete = Commit::Writes(vec![Batch::unnamed(Write::Delete(vec![id.clone()]))]);
    assert_eq!(&delete.encode()[..], b"\x08\x01\x12\x07\x0a\x05\x12\x03\x0a\x01x");
    let named = Batch { request_id: Some("r".parse().unwrap()), write: Write::Delete(vec![id]) };
    assert_eq!(&Commit::Writes(vec![named]).encode()[..2], b"\x08\x02");
    let publication = Publication::unconditional(generation(), model(), Lsn(7));
    assert_eq!(&Commit::Publish(publication.clone()).encode()[..2], b"\x08\x01");
    let conditional = Publication { expected: Expected::Nothing, ..publication };
    assert_eq!(&Commit::Publish(conditional).encode()[..2], b"\x08\x02");
}

#[test]
fn a_publication_of_the_first_version_is_read() {
    let fields = b"\x0a\x1400000000000000aa-3-x\x12\x1000000000000000aa\x18\x03\x20\x07";
    let old = [b"\x08\x01\x1a".as_slice(), &[fields.len() as u8], fields].concat();
    assert_eq!(
        Commit::decode(old.into()),
        Ok(Commit::Publish(Publication::unconditional(generation(), model(), Lsn(7))))
    );
}

#[test]
fn what_must_not_be_is_refused() {
    assert_eq!(Commit::decode(Bytes::from_static(b"\x08\x03")), Err(RecordError::UnknownVersion(3)));
    assert_eq!(Commit::decode(Bytes::new()), Err(RecordError::UnknownVersion(0)));
    assert!(matches!(Commit::decode(Bytes::from_static(b"\x08\x01")), Err(RecordError::Invalid(_))));
    let items = vec![Item::new(ItemId::new("x").unwrap(), vec![f32::NAN])];
    let nan = Commit::Writes(vec![Batch::unnamed(Write::Upsert { model: model(), items })]);
    assert!(matches!(Commit::decode(nan.encode()), Err(RecordError::Invalid(_))));
}
