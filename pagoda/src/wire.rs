//! Entities as the contract has them.

use pagoda_model::{Entity, FeatureValue};
use pagoda_proto::feature::v1::{
    Entity as WireEntity, FeatureValue as WireValue, FloatList, TextList, feature_value::Value,
};

/// An entity with its features as proto.
pub(crate) fn to_wire(entity: &Entity) -> WireEntity {
    let features =
        entity.features.iter().map(|(name, value)| (name.clone(), WireValue { value: Some(wire_value(value)) }));
    WireEntity { id: entity.id.clone(), features: features.collect() }
}

fn wire_value(value: &FeatureValue) -> Value {
    match value {
        FeatureValue::Number(number) => Value::Number(*number),
        FeatureValue::Text(text) => Value::Text(text.clone()),
        FeatureValue::Floats(values) => Value::Floats(FloatList { values: values.clone() }),
        FeatureValue::Texts(values) => Value::Texts(TextList { values: values.clone() }),
    }
}
