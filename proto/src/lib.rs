//! The contract between the services: code generated from `pagoda/*/v1/*.proto`, and its descriptor set.
//!
//! Knows nothing of candle, Faiss or our domain types. In a service, proto types never pass `wire.rs`.

/// The descriptors of all our proto files, for server reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! package {
    ($area:ident, $package:literal, $doc:literal) => {
        #[doc = $doc]
        pub mod $area {
            #[doc = $doc]
            #[allow(missing_docs, clippy::all, unreachable_pub)]
            pub mod v1 {
                tonic::include_proto!($package);
            }
        }
    };
}

package!(feature, "pagoda.feature.v1", "`pagoda.feature.v1`: raw features, model versions, embeddings.");
package!(filter, "pagoda.filter.v1", "`pagoda.filter.v1`: conditions on the attributes of items.");
package!(index, "pagoda.index.v1", "`pagoda.index.v1`: the vector index.");
package!(item, "pagoda.item.v1", "`pagoda.item.v1`: the item tower and its refreshes.");
package!(
    ranking,
    "pagoda.ranking.v1",
    "`pagoda.ranking.v1`: a ranker as `pagoda mine` asks it; served by whoever has one."
);
package!(recall, "pagoda.recall.v1", "`pagoda.recall.v1`: the retrieval stage, called by the ranking layer.");
package!(user, "pagoda.user.v1", "`pagoda.user.v1`: the user tower.");
