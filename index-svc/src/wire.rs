//! From the wire to the domain and back. Every field at fault is collected; past here no proto type is seen.

mod attributes;
mod generations;
mod search;
mod status;
mod writes;

use pagoda_proto::{feature::v1 as feature, index::v1 as proto};
use pagoda_server::status::Violation;

use crate::{
    error::IndexError,
    ids::{ItemId, ModelVersion},
    item::Item,
};

pub(crate) use self::{
    generations::{batch, header, out_of_order, publish_request, rollback_request},
    search::{batch_search_request, batch_search_response, search_request, search_response},
    status::{build_response, list_response, status_response},
    writes::{check_declared, check_dimensions, delete_request, request_id, upsert_request},
};

const DIM_LIMIT: usize = 4096;
const BATCH_LIMIT: usize = 4096;
const NORM_TOLERANCE: f64 = 1e-3;
/// So many faults are named, and the others counted: a request has room for millions, a reply for no more than these.
const NAMED_MAX: usize = 32;

/// What is wrong with a request, all of it.
#[derive(Default)]
struct Violations {
    named: Vec<Violation>,
    more: usize,
}

impl Violations {
    fn add(&mut self, path: impl Into<String>, description: impl Into<String>) {
        self.note(|| Violation::new(path, description));
    }

    /// Counts a fault, and asks what it is only where it is to be named.
    fn note(&mut self, fault: impl FnOnce() -> Violation) {
        if self.named.len() < NAMED_MAX {
            self.named.push(fault());
        } else {
            self.more += 1;
        }
    }

    fn count(&self) -> usize {
        self.named.len() + self.more
    }

    fn check(&mut self, holds: bool, path: &str, description: impl FnOnce() -> String) {
        if !holds {
            self.add(path, description());
        }
    }

    /// Keeps a good value and notes a bad one.
    fn take<T, E: ToString>(&mut self, path: impl Into<String>, value: Result<T, E>) -> Option<T> {
        value.map_err(|e| self.add(path, e.to_string())).ok()
    }

    /// The request, if nothing is wrong with it.
    fn finish<T>(self, request: Option<T>) -> Result<T, IndexError> {
        match request {
            Some(request) if self.count() == 0 => Ok(request),
            _ => Err(IndexError::Invalid(self.told())),
        }
    }

    /// Those named; where they are not all, how many there are comes first, since a reply may have no room for the last of them.
    fn told(self) -> Vec<Violation> {
        let told = || format!("{} faults, of which the first are told", self.count());
        let count = (self.more > 0).then(|| Violation::new("", told()));
        count.into_iter().chain(self.named).collect()
    }
}

fn model_to_wire(model: ModelVersion) -> feature::ModelVersion {
    feature::ModelVersion { space_id: model.space.to_string(), revision: model.revision }
}

fn model(wrong: &mut Violations, path: &str, model: Option<feature::ModelVersion>) -> Option<ModelVersion> {
    let Some(model) = model else {
        wrong.add(path, "expected a model version, found nothing");
        return None;
    };
    let space = wrong.take(format!("{path}.space_id"), model.space_id.parse());
    space.map(|space| ModelVersion { space, revision: model.revision })
}

/// The good items, each with its number in the request.
fn items(
    wrong: &mut Violations,
    path: &str,
    items: Vec<proto::ItemEmbedding>,
    dim: Option<usize>,
) -> Vec<(usize, Item)> {
    check_batch(wrong, path, items.len());
    let mut good = Vec::with_capacity(items.len());
    for (n, item) in items.into_iter().enumerate().take(BATCH_LIMIT) {
        let id = wrong.take(format!("{path}[{n}].item_id"), ItemId::new(&item.item_id));
        let embedding = embedding(wrong, &format!("{path}[{n}].embedding"), item.embedding, dim);
        let attributes = attributes::of_item(wrong, &format!("{path}[{n}].attributes"), item.attributes);
        good.extend(id.zip(embedding).map(|(id, embedding)| (n, Item { id, embedding, attributes })));
    }
    good
}

/// A finite vector of norm 1, of dimension `dim` where that is known.
fn embedding(
    wrong: &mut Violations,
    path: &str,
    embedding: Option<feature::Embedding>,
    dim: Option<usize>,
) -> Option<Vec<f32>> {
    let before = wrong.count();
    let values = embedding.unwrap_or_default().values;
    match dim {
        Some(dim) => check_dimension(wrong, path, values.len(), dim),
        None => wrong.check((1..=DIM_LIMIT).contains(&values.len()), &format!("{path}.values"), || {
            format!("expected 1 to {DIM_LIMIT} values, found {}", values.len())
        }),
    }
    // Without its length being right its values tell nothing, however many they are.
    if wrong.count() > before {
        return None;
    }
    for (n, value) in values.iter().enumerate().filter(|(_, value)| !value.is_finite()) {
        let found = || format!("expected a finite number, found {value}");
        wrong.note(|| Violation::new(format!("{path}.values[{n}]"), found()));
    }
    if wrong.count() == before {
        let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        wrong.check((norm - 1.0).abs() <= NORM_TOLERANCE, &format!("{path}.values"), || {
            format!("expected a vector of norm 1 within {NORM_TOLERANCE}, found norm {norm}")
        });
    }
    (wrong.count() == before).then_some(values)
}

fn check_dimension(wrong: &mut Violations, path: &str, found: usize, expected: usize) {
    wrong.check(found == expected, &format!("{path}.values"), || format!("expected {expected} values, found {found}"));
}

fn check_batch(wrong: &mut Violations, path: &str, found: usize) {
    wrong.check((1..=BATCH_LIMIT).contains(&found), path, || {
        format!("expected 1 to {BATCH_LIMIT} of them, found {found}")
    });
}

fn numbered(ids: &[String]) -> impl Iterator<Item = (usize, &str)> {
    ids.iter().map(String::as_str).enumerate()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn paths<T>(result: Result<T, IndexError>) -> Vec<String> {
        violations(result).into_iter().map(|v| v.path).collect()
    }

    /// Paths and descriptions.
    pub(super) fn told<T>(result: Result<T, IndexError>) -> Vec<String> {
        violations(result).into_iter().map(|v| format!("{}: {}", v.path, v.description)).collect()
    }

    fn violations<T>(result: Result<T, IndexError>) -> Vec<Violation> {
        match result {
            Err(IndexError::Invalid(violations)) => violations,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("nothing was found wrong"),
        }
    }

    pub(super) fn vector(values: &[f32]) -> Option<feature::Embedding> {
        Some(feature::Embedding { values: values.to_vec() })
    }

    pub(super) fn item(id: &str, values: &[f32]) -> proto::ItemEmbedding {
        proto::ItemEmbedding { item_id: id.into(), embedding: vector(values), ..Default::default() }
    }
}
