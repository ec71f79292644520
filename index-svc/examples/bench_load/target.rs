//! The server, and what it is asked: users of the benchmark's data, with and without filters.

use std::{path::Path, sync::Arc, time::Duration};

use pagoda_ann::Matrix;
use pagoda_proto::{
    feature::v1::{Embedding, ModelVersion},
    filter::v1::{self as filter, condition::Test},
    index::v1::{SearchRequest, SearchResponse, index_service_client::IndexServiceClient},
};
use serde::Deserialize;
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use crate::{Fault, catalog};

/// The one space.
pub(crate) const SPACE: &str = "00000000000000aa";
/// As many as a service in front of it would have.
const CONNECTIONS: usize = 2;
const SEARCH_TIMEOUT: Duration = Duration::from_secs(10);

/// What is asked of every call.
#[derive(Clone, Deserialize)]
pub(crate) struct Wanted {
    k: u32,
    #[serde(default)]
    exact: bool,
    /// The share of items that a range over their numbers matches.
    #[serde(default)]
    share: Option<f64>,
    /// The tag that half of the items have.
    #[serde(default)]
    tag: Option<String>,
}

/// Connections to the server, and the data. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Target {
    clients: Arc<[IndexServiceClient<Channel>]>,
    pub(crate) items: Arc<Matrix>,
    pub(crate) users: Arc<Matrix>,
    pub(crate) tuning_users: Arc<Matrix>,
}

impl Target {
    /// Connects when it is first used.
    pub(crate) fn open(folder: &Path, dim: usize, address: &str) -> Result<Self, Fault> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        let client = |_| IndexServiceClient::new(endpoint.connect_lazy());
        let open = |name: &str| Matrix::open(&folder.join(name), dim).map(Arc::new);
        Ok(Self {
            clients: (0..CONNECTIONS).map(client).collect(),
            items: open("items.f32")?,
            users: open("users.f32")?,
            tuning_users: open("tuning.f32")?,
        })
    }

    /// A connection, in turns.
    pub(crate) fn client(&self, number: usize) -> IndexServiceClient<Channel> {
        self.clients[number % self.clients.len()].clone()
    }

    /// The search of a call with this number.
    pub(crate) async fn search(&self, number: usize, wanted: &Wanted) -> Result<SearchResponse, Status> {
        let user = self.users.row((number % self.users.rows()) as u32);
        self.ask(number, self.request(user, wanted)).await
    }

    /// The nearest item.
    pub(crate) async fn nearest(&self, embedding: &[f32]) -> Result<Option<String>, Status> {
        let wanted = Wanted { k: 1, exact: false, share: None, tag: None };
        let response = self.ask(0, self.request(embedding, &wanted)).await?;
        Ok(response.items.into_iter().next().map(|item| item.item_id))
    }

    async fn ask(&self, number: usize, request: SearchRequest) -> Result<SearchResponse, Status> {
        let mut request = Request::new(request);
        request.set_timeout(SEARCH_TIMEOUT);
        Ok(self.client(number).search(request).await?.into_inner())
    }

    fn request(&self, embedding: &[f32], wanted: &Wanted) -> SearchRequest {
        let conditions: Vec<_> = self.range(wanted).into_iter().chain(tag(wanted)).collect();
        SearchRequest {
            space_id: SPACE.into(),
            embedding: Some(Embedding { values: embedding.to_vec() }),
            k: wanted.k,
            exact: wanted.exact,
            filter: (!conditions.is_empty()).then_some(filter::Filter { all: conditions }),
            ..Default::default()
        }
    }

    fn range(&self, wanted: &Wanted) -> Option<filter::Condition> {
        let end = (wanted.share? * self.items.rows() as f64).round() as i64;
        let bound = |n, exclusive| Some(filter::Bound { value: Some(filter::bound::Value::Integer(n)), exclusive });
        let range = filter::Range { lower: bound(0, false), upper: bound(end, true) };
        Some(filter::Condition { attribute: catalog::NUMBER.into(), test: Some(Test::Range(range)) })
    }
}

fn tag(wanted: &Wanted) -> Option<filter::Condition> {
    let value = filter::Value { value: Some(filter::value::Value::Text(wanted.tag.clone()?)) };
    let test = Test::AnyOf(filter::Values { values: vec![value] });
    Some(filter::Condition { attribute: catalog::TAG.into(), test: Some(test) })
}

/// The model of everything.
pub(crate) fn model() -> Option<ModelVersion> {
    Some(ModelVersion { space_id: SPACE.into(), revision: 0 })
}
