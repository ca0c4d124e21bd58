//! Jobs as they were submitted.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What was submitted; labels, annotations and pod spec byte for byte.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// The namespace.
    pub namespace: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "raw_option")]
    pub labels: Option<Box<RawValue>>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "raw_option")]
    pub annotations: Option<Box<RawValue>>,
    /// Services, with what was left out filled in.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "raw_option")]
    pub services: Option<Box<RawValue>>,
    /// Ingresses, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "raw_option")]
    pub ingress: Option<Box<RawValue>>,
    /// The pod spec.
    #[serde(with = "raw")]
    pub pod_spec: Box<RawValue>,
}

/// Raw JSON that is JSON in JSON and text in every other format.
mod raw {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use serde_json::value::RawValue;

    pub(super) fn serialize<S: Serializer>(
        value: &RawValue,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            value.serialize(serializer)
        } else {
            serializer.serialize_str(value.get())
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Box<RawValue>, D::Error> {
        if deserializer.is_human_readable() {
            Box::<RawValue>::deserialize(deserializer)
        } else {
            let text = String::deserialize(deserializer)?;
            RawValue::from_string(text).map_err(de::Error::custom)
        }
    }
}

/// The same for optional values.
mod raw_option {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use serde_json::value::RawValue;

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Box<RawValue>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::raw::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Box<RawValue>>, D::Error> {
        if deserializer.is_human_readable() {
            Option::<Box<RawValue>>::deserialize(deserializer)
        } else {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| RawValue::from_string(text).map_err(de::Error::custom)).transpose()
        }
    }
}
