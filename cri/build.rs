//! Compiles `proto/api.proto` to Rust: messages, the two servers and the two clients of CRI v1.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/api.proto");
    let descriptors = protox::compile(["api.proto"], ["proto"])?;

    // The tests compare the compiled schema with the published table.
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("runtime.v1.fds"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        // Ordered maps: records, logs and golden files come out the same each time.
        .btree_map(".")
        // Records of pods and containers keep the configs as they came, as JSON.
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(".", "#[serde(default)]")
        .field_attribute(
            "KeyValue.value",
            "#[serde(with = \"crate::proto::text_or_bytes\")]",
        )
        .compile_fds(descriptors)?;

    // What the command line asks for beyond the CRI.
    println!("cargo:rerun-if-changed=proto/pintle.proto");
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(false)
        .compile_fds(protox::compile(["pintle.proto"], ["proto"])?)?;

    // What plugins of the node's resources speak, over a protocol of their own: the messages alone.
    println!("cargo:rerun-if-changed=proto/nri.proto");
    let nri = protox::compile(["nri.proto"], ["proto"])?;
    fs::write(out.join("nri.fds"), nri.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_client(false)
        .btree_map(".")
        .compile_fds(nri)?;
    Ok(())
}
