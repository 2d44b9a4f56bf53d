//! The CRI v1 schema (`proto/api.proto`) as Rust types: messages, servers and clients.

// Generated code: its documentation is the comments of the schema.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("runtime.v1");

/// The second service on the socket (`proto/pintle.proto`).
pub mod admin {
    tonic::include_proto!("pintle.v1");
}

/// What plugins of the node's resources speak (`proto/nri.proto`).
pub mod nri {
    tonic::include_proto!("nri.pkg.api.v1alpha1");

    /// The compiled schema as an encoded `google.protobuf.FileDescriptorSet`.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/nri.fds"));
}

/// The compiled schema as an encoded `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runtime.v1.fds"));

/// Bytes in JSON: as a string where they are UTF-8, else as a list of numbers.
pub(crate) mod text_or_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(crate) fn serialize<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(value) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => value.serialize(serializer),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Text(text) => text.into_bytes(),
            Form::Bytes(bytes) => bytes,
        })
    }
}
