//! What was once on the wire stays: `wire.lock` lists every message, field, enum value and method ever released.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test root")]

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet, field_descriptor_proto::Type,
};

const LOCK: &str = include_str!("../wire.lock");

#[test]
fn no_field_or_method_is_renumbered_retyped_or_removed() {
    let now = surface();
    let locked: BTreeSet<String> = LOCK.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let gone: Vec<_> = locked.difference(&now).collect();
    assert!(gone.is_empty(), "released wire elements are gone or changed; restore them: {gone:#?}");
    let new: Vec<_> = now.difference(&locked).map(String::as_str).collect();
    assert!(new.is_empty(), "append these lines to proto/wire.lock:\n{}", new.join("\n"));
}

#[test]
fn the_workload_api_has_no_package_and_exactly_the_standard_methods() {
    let methods: Vec<_> = surface()
        .into_iter()
        .filter_map(|line| line.strip_prefix("rpc /SpiffeWorkloadAPI/").map(str::to_owned))
        .collect();
    let names: Vec<_> = methods.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(
        names,
        [
            "FetchJWTBundles",
            "FetchJWTSVID",
            "FetchWITBundles",
            "FetchWITSVID",
            "FetchX509Bundles",
            "FetchX509SVID",
            "ValidateJWTSVID",
        ]
    );
}

fn surface() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(mayfly_proto::DESCRIPTORS).unwrap();
    let mut lines = BTreeSet::new();
    for file in set.file.iter().filter(|file| !file.package().starts_with("google.")) {
        methods(file, &mut lines);
        let scope = file.package();
        file.message_type.iter().for_each(|message| fields(scope, message, &mut lines));
        file.enum_type.iter().for_each(|values| variants(scope, values, &mut lines));
    }
    lines
}

fn methods(file: &FileDescriptorProto, lines: &mut BTreeSet<String>) {
    for service in &file.service {
        let path = [file.package(), service.name()]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(".");
        for method in &service.method {
            let stream = |on: bool| if on { "stream " } else { "" };
            lines.insert(format!(
                "rpc /{path}/{} ({}{}) returns ({}{})",
                method.name(),
                stream(method.client_streaming()),
                method.input_type(),
                stream(method.server_streaming()),
                method.output_type(),
            ));
        }
    }
}

fn fields(scope: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", message.name());
    lines.insert(format!("message {name}"));
    for field in &message.field {
        let kind = match field.r#type() {
            Type::Message | Type::Enum => field.type_name().to_owned(),
            scalar => format!("{scalar:?}").to_lowercase(),
        };
        lines.insert(format!("field {name} {} = {} {kind} {:?}", field.name(), field.number(), field.label()));
    }
    message.nested_type.iter().for_each(|nested| fields(&name, nested, lines));
    message.enum_type.iter().for_each(|values| variants(&name, values, lines));
}

fn variants(scope: &str, values: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &values.value {
        lines.insert(format!("value {scope}.{} {} = {}", values.name(), value.name(), value.number()));
    }
}
