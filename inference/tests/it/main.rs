//! A tower under many callers, while models come and go.

#![allow(clippy::unwrap_used)]

#[path = "../../../model/fixtures/hand_written_bundle.rs"]
mod bundle;

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use pagoda_inference::{Embedded, InferenceError, Tower, TowerLimits};
use pagoda_model::{Entity, FeatureValue, Side, bundle::ModelBundle};

fn tower(queue_capacity: usize) -> Tower {
    Tower::start(Side::Item, TowerLimits { queue_capacity, batch_max: 16, threads: 1 }).unwrap()
}

fn item(x: f32, y: f32) -> Entity {
    Entity { id: String::new(), features: [("image".to_owned(), FeatureValue::Floats(vec![x, y]))].into() }
}

fn model(space: u64) -> Arc<ModelBundle> {
    Arc::new(ModelBundle::from_files(&bundle::files(bundle::version(space))).unwrap())
}

fn first(embedded: &Embedded) -> &[f32] {
    embedded.embeddings[0].as_slice()
}

#[tokio::test]
async fn callers_who_share_a_pass_get_their_own_embeddings() {
    let tower = tower(1000);
    tower.install(vec![model(1)]);
    let calls = (0..200_u16).map(|n| {
        let angle = f32::from(n) / 100.0;
        let items = vec![item(angle.cos(), angle.sin()); usize::from(n % 5) + 1];
        let call = tower.embed(None, items);
        async move { (n, angle, call.await.unwrap()) }
    });
    for (n, angle, embedded) in join_all(calls).await {
        assert_eq!(embedded.embeddings.len(), usize::from(n % 5) + 1);
        for embedding in &embedded.embeddings {
            let [x, y] = embedding.as_slice() else { panic!("two numbers") };
            assert!((x - angle.cos()).abs() < 1e-5 && (y - angle.sin()).abs() < 1e-5, "{n}");
        }
    }
}

#[tokio::test]
async fn a_caller_hears_of_its_own_faults_alone() {
    let tower = tower(100);
    tower.install(vec![model(1)]);
    let calls = (0..20).map(|n| {
        let bad = if n == 7 { f32::NAN } else { 1.0 };
        tower.embed(None, vec![item(1.0, 0.0), item(bad, 0.0)])
    });
    for (n, answer) in join_all(calls).await.into_iter().enumerate() {
        match answer {
            Err(InferenceError::Invalid(faults)) => assert_eq!((n, faults[0].0, faults.len()), (7, 1, 1)),
            answer => assert!(n != 7 && answer.unwrap().embeddings.len() == 2),
        }
    }
}

#[tokio::test]
async fn models_are_swapped_under_calls_and_each_answer_names_its_own() {
    let tower = tower(1000);
    assert!(matches!(tower.embed(None, vec![item(1.0, 0.0)]).await, Err(InferenceError::NoModel)));
    let (one, two) = (model(1), model(2));
    tower.install(vec![one.clone()]);
    let before: Vec<_> = (0..50).map(|_| tower.embed(None, vec![item(1.0, 0.0)])).map(Box::pin).collect();
    let answers = join_all(before).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().version == one.version()));
    tower.install(vec![two.clone(), one.clone()]);
    assert_eq!(tower.loaded(), [two.version(), one.version()]);
    let (newest, older) =
        tokio::join!(tower.embed(None, vec![item(0.0, 3.0)]), tower.embed(Some(one.version()), vec![item(0.0, 3.0)]));
    assert_eq!((newest.as_ref().unwrap().version, older.unwrap().version), (two.version(), one.version()));
    assert_eq!(first(&newest.unwrap()), [0.0, 1.0]);
    tower.install(vec![two]);
    let gone = tower.embed(Some(one.version()), vec![item(1.0, 0.0)]).await;
    assert!(matches!(gone, Err(InferenceError::NotLoaded(version)) if version == one.version()));
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_recovers() {
    let tower = tower(1);
    tower.install(vec![model(1)]);
    let calls = [50_000, 1, 1, 1].map(|count| tower.embed(None, vec![item(1.0, 0.0); count]));
    let answers = tokio::time::timeout(Duration::from_secs(60), join_all(calls)).await.unwrap();
    let refused = answers.iter().filter(|answer| matches!(answer, Err(InferenceError::Overloaded))).count();
    assert!((2..=3).contains(&refused), "{refused} of the last three");
    assert_eq!(answers[0].as_ref().unwrap().embeddings.len(), 50_000);
    assert!(tower.embed(None, vec![item(1.0, 0.0)]).await.is_ok());
}

#[tokio::test]
async fn a_caller_who_leaves_is_no_trouble() {
    let tower = tower(100);
    tower.install(vec![model(1)]);
    for _ in 0..200 {
        let mut call = Box::pin(tower.embed(None, vec![item(1.0, 0.0); 8]));
        let _ = futures::poll!(&mut call);
        drop(call);
        tokio::task::yield_now().await;
    }
    let answered = loop {
        match tower.embed(None, vec![item(1.0, 0.0)]).await {
            Err(InferenceError::Overloaded) => tokio::task::yield_now().await,
            answer => break answer,
        }
    };
    assert_eq!(first(&answered.unwrap()), [1.0, 0.0]);
}
