//! The compiled schemas against the published tables of CRI v1 and NRI, row by row, in both directions.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FieldOptions, FileDescriptorSet,
    MessageOptions, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

/// One fact a row, tab-separated; lines that begin with `#` are headings.
const CRI: &str = include_str!("data/cri-v1-schema.tsv");
/// The same for NRI v1alpha1.
const NRI: &str = include_str!("data/nri-schema.tsv");

#[test]
fn schema_is_the_published_one() {
    compare(CRI, 600, pintle_cri::proto::FILE_DESCRIPTOR_SET, "runtime.v1");
}

#[test]
fn nri_is_the_published_one() {
    let descriptors = pintle_cri::proto::nri::FILE_DESCRIPTOR_SET;
    compare(NRI, 350, descriptors, "nri.pkg.api.v1alpha1");
}

fn compare(table: &str, at_least: usize, descriptors: &[u8], package: &str) {
    let want: BTreeSet<String> = table
        .lines()
        .filter(|l| !l.starts_with('#') && !l.trim().is_empty())
        .map(str::to_owned)
        .collect();
    let have = rows(descriptors, package);
    assert!(
        want.len() > at_least,
        "the table is cut short: {} rows",
        want.len()
    );

    let missing: Vec<_> = want.difference(&have).collect();
    let extra: Vec<_> = have.difference(&want).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing: {missing:#?}\nnot in the table: {extra:#?}"
    );
}

fn rows(descriptors: &[u8], package: &str) -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(descriptors).expect("the descriptor set decodes");
    assert_eq!(set.file.len(), 1);
    let file = &set.file[0];
    assert_eq!(file.package(), package);
    assert_eq!(file.syntax(), "proto3");

    let mut rows = BTreeSet::new();
    let mut add = |row: String| assert!(rows.insert(row.clone()), "twice: {row}");
    for service in &file.service {
        service_rows(service, &mut add);
    }
    for message in &file.message_type {
        message_rows(message, &mut add);
    }
    for e in &file.enum_type {
        enum_rows(e.name(), e, &mut add);
    }
    rows
}

fn service_rows(service: &ServiceDescriptorProto, add: &mut impl FnMut(String)) {
    for rpc in &service.method {
        assert!(!rpc.client_streaming(), "{} streams from the client", rpc.name());
        let streaming = if rpc.server_streaming() {
            "server-stream"
        } else {
            "unary"
        };
        let (input, output) = (short(rpc.input_type()), short(rpc.output_type()));
        add(["rpc", service.name(), rpc.name(), input, output, streaming].join("\t"));
    }
}

fn message_rows(message: &DescriptorProto, add: &mut impl FnMut(String)) {
    let name = message.name();
    if message.field.is_empty() {
        add(["field", name, "-", "-", "-", "(no fields)", "-"].join("\t"));
    }
    for field in &message.field {
        assert!(!field.proto3_optional(), "{name}.{} is optional", field.name());
        let oneof = field
            .oneof_index
            .map_or("-", |i| message.oneof_decl[i as usize].name());
        let (label, mut kind) = label_and_type(message, field);
        if field.options.as_ref().is_some_and(FieldOptions::deprecated) {
            kind.push_str(" deprecated");
        }
        add([
            "field",
            name,
            &field.number().to_string(),
            field.name(),
            label,
            &kind,
            oneof,
        ]
        .join("\t"));
    }
    for e in &message.enum_type {
        enum_rows(&format!("{name}.{}", e.name()), e, add);
    }
    assert!(
        message
            .nested_type
            .iter()
            .all(|n| n.options.as_ref().is_some_and(MessageOptions::map_entry)),
        "{name} has nested messages"
    );
}

fn enum_rows(name: &str, e: &EnumDescriptorProto, add: &mut impl FnMut(String)) {
    for value in &e.value {
        add(["enum", name, &value.number().to_string(), value.name()].join("\t"));
    }
}

fn label_and_type(message: &DescriptorProto, field: &FieldDescriptorProto) -> (&'static str, String) {
    let entry = message
        .nested_type
        .iter()
        .find(|n| n.name() == short(field.type_name()));
    match (field.label(), entry) {
        (Label::Repeated, Some(entry)) => {
            let parts: Vec<_> = entry.field.iter().map(type_name).collect();
            ("map", format!("map<{}>", parts.join(",")))
        }
        (Label::Repeated, None) => ("repeated", type_name(field)),
        (Label::Optional, _) => ("single", type_name(field)),
        (Label::Required, _) => panic!("{}.{} is required", message.name(), field.name()),
    }
}

fn type_name(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => short(field.type_name()).to_owned(),
        Type::String => "string".to_owned(),
        Type::Bytes => "bytes".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Int32 => "int32".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Uint32 => "uint32".to_owned(),
        Type::Uint64 => "uint64".to_owned(),
        Type::Double => "double".to_owned(),
        other => panic!("{}: CRI has no {other:?}", field.name()),
    }
}

fn short(full: &str) -> &str {
    full.rsplit('.').next().unwrap_or(full)
}
