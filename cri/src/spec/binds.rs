//! The mounts that a container's config asks for: folders and files of the host, and images.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount;

use super::{
    ImageMount, SourcePropagation, SpecError, SpecInput, image_mount_key,
    mounts::{Mounts, mount},
    namespaces::id_mappings,
};
use crate::proto::{self, MountPropagation as Propagation};

/// What `Mount.mount_options` may hold.
const MOUNT_OPTIONS: [&str; 3] = ["noexec", "nodev", "nosuid"];

/// The config's mounts, in its order.
pub(super) fn config_mounts(input: &SpecInput<'_>) -> Result<Mounts, SpecError> {
    let mut result = Mounts::default();
    for config in &input.config.mounts {
        let destination = destination(&config.container_path)?;
        let propagation = propagation(config)?;
        let mut mount = match &config.image {
            Some(image) => image_mount(input, config, &image.image, &destination, propagation)?,
            None => bind(input, config, &destination, propagation, &mut result)?,
        };
        let (uids, gids) = (&config.uid_mappings, &config.gid_mappings);
        if !uids.is_empty() || !gids.is_empty() {
            check_mappings(input, config)?;
            mount
                .set_uid_mappings(Some(id_mappings(uids)))
                .set_gid_mappings(Some(id_mappings(gids)));
        }
        result.mounts.push(mount);
    }
    Ok(result)
}

/// The absolute path of a mount in the container, without `.`, `..` and doubled slashes.
pub(super) fn destination(path: &str) -> Result<PathBuf, SpecError> {
    const FIELD: &str = "mounts.container_path";
    if !path.starts_with('/') || path.contains('\0') {
        return Err(SpecError::invalid(FIELD, path, "expected an absolute path"));
    }
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if clean == Path::new("/") {
        return Err(SpecError::invalid(
            FIELD,
            path,
            "the root itself can't be mounted over",
        ));
    }
    Ok(clean)
}

fn bind(
    input: &SpecInput<'_>,
    config: &proto::Mount,
    destination: &Path,
    propagation: Propagation,
    result: &mut Mounts,
) -> Result<Mount, SpecError> {
    const FIELD: &str = "mounts.host_path";
    if !config.host_path.starts_with('/') || config.host_path.contains('\0') {
        return Err(SpecError::invalid(
            FIELD,
            &config.host_path,
            "expected an absolute path",
        ));
    }
    if !config.image_sub_path.is_empty() {
        return Err(SpecError::invalid(
            "mounts.image_sub_path",
            &config.image_sub_path,
            "no image is mounted",
        ));
    }
    let source = input
        .host
        .mounts
        .get(&config.host_path)
        .ok_or_else(|| SpecError::invalid(FIELD, &config.host_path, "does not exist on the host"))?;
    check_source(config, propagation, source.propagation)?;
    result.root_propagation = root_propagation(result.root_propagation, propagation);
    if config.selinux_relabel && input.node.selinux {
        result.relabel.push(source.path.clone());
    }
    let mut options = vec![
        "rbind",
        propagation_option(propagation),
        access(input, config, propagation)?,
    ];
    options.extend(extra_options(config)?);
    Ok(mount(destination, "bind", &source.path, &options))
}

fn image_mount(
    input: &SpecInput<'_>,
    config: &proto::Mount,
    image: &str,
    destination: &Path,
    propagation: Propagation,
) -> Result<Mount, SpecError> {
    let failed = |reason| SpecError::ImageVolume {
        image: image.to_owned(),
        container_path: config.container_path.clone(),
        reason,
    };
    if !config.host_path.is_empty() {
        return Err(SpecError::invalid(
            "mounts.host_path",
            &config.host_path,
            "excludes image, which is also given",
        ));
    }
    if image.is_empty() {
        return Err(SpecError::Missing {
            field: "mounts.image.image",
        });
    }
    if !config.readonly {
        return Err(failed("it can only be mounted read-only"));
    }
    if propagation != Propagation::PropagationPrivate {
        return Err(failed("its propagation can only be private"));
    }
    let sub_path = config.image_sub_path.as_str();
    let climbs = |part| !matches!(part, Component::Normal(_) | Component::CurDir);
    if sub_path.contains('\0') || Path::new(sub_path).components().any(climbs) {
        return Err(failed("image_sub_path leads out of the image"));
    }
    let extra = extra_options(config)?;
    let source = input.host.image_mounts.get(&image_mount_key(image, sub_path));
    let bind = |path: &Path| {
        mount(
            destination,
            "bind",
            path,
            &[&["rbind", "rprivate", "ro"][..], &extra].concat(),
        )
    };
    match source.ok_or_else(|| failed("it has not been prepared"))? {
        ImageMount::Path(path) => Ok(bind(path)),
        ImageMount::Layers(layers) => match layers.as_slice() {
            [] => Err(failed("it has no layers")),
            [only] => Ok(bind(only)),
            several => {
                let lower = format!(
                    "lowerdir={}",
                    several
                        .iter()
                        .map(|layer| escape(layer))
                        .collect::<Vec<_>>()
                        .join(":")
                );
                Ok(mount(
                    destination,
                    "overlay",
                    "overlay",
                    &[&["ro", lower.as_str()][..], &extra].concat(),
                ))
            }
        },
    }
}

/// Read-write, read-only, or read-only all the way down.
fn access(
    input: &SpecInput<'_>,
    config: &proto::Mount,
    propagation: Propagation,
) -> Result<&'static str, SpecError> {
    let refused = |reason| {
        Err(SpecError::RecursiveReadOnly {
            container_path: config.container_path.clone(),
            reason,
        })
    };
    match (config.recursive_read_only, config.readonly) {
        (false, false) => Ok("rw"),
        (false, true) => Ok("ro"),
        (true, false) => refused("recursive_read_only needs readonly"),
        (true, true) if propagation != Propagation::PropagationPrivate => {
            refused("recursive_read_only needs private propagation")
        }
        (true, true) if !input.node.recursive_read_only => refused("this kernel can't do it"),
        (true, true) => Ok("rro"),
    }
}

fn extra_options(config: &proto::Mount) -> Result<Vec<&str>, SpecError> {
    let known = |option: &String| MOUNT_OPTIONS.contains(&option.as_str());
    match config.mount_options.iter().find(|option| !known(option)) {
        Some(option) => Err(SpecError::invalid(
            "mounts.mount_options",
            option,
            "expected noexec, nodev or nosuid",
        )),
        None => Ok(config.mount_options.iter().map(String::as_str).collect()),
    }
}

fn propagation(config: &proto::Mount) -> Result<Propagation, SpecError> {
    Propagation::try_from(config.propagation)
        .map_err(|_| SpecError::invalid("mounts.propagation", config.propagation, "no such propagation"))
}

fn propagation_option(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::PropagationPrivate => "rprivate",
        Propagation::PropagationHostToContainer => "rslave",
        Propagation::PropagationBidirectional => "rshared",
    }
}

/// The root must let through what any of the mounts lets through.
fn root_propagation(so_far: Option<&'static str>, propagation: Propagation) -> Option<&'static str> {
    match (propagation, so_far) {
        (Propagation::PropagationPrivate, so_far) => so_far,
        (Propagation::PropagationHostToContainer, Some("rshared")) => so_far,
        (propagation, _) => Some(propagation_option(propagation)),
    }
}

fn check_source(
    config: &proto::Mount,
    wanted: Propagation,
    source: SourcePropagation,
) -> Result<(), SpecError> {
    let needs = match (wanted, source) {
        (Propagation::PropagationPrivate, _) | (_, SourcePropagation::Shared) => return Ok(()),
        (Propagation::PropagationHostToContainer, SourcePropagation::Slave) => return Ok(()),
        (Propagation::PropagationHostToContainer, _) => "shared or slave",
        (Propagation::PropagationBidirectional, _) => "shared",
    };
    Err(SpecError::Propagation {
        host_path: config.host_path.clone(),
        propagation: wanted.as_str_name(),
        needs,
    })
}

fn check_mappings(input: &SpecInput<'_>, config: &proto::Mount) -> Result<(), SpecError> {
    if config.uid_mappings.is_empty() || config.gid_mappings.is_empty() {
        let reason = "uidMappings and gidMappings go together";
        return Err(SpecError::invalid(
            "mounts.container_path",
            &config.container_path,
            reason,
        ));
    }
    if !input.node.user_namespaces {
        let (field, value) = ("mounts.uidMappings of", config.container_path.clone());
        return Err(SpecError::Unsupported {
            field,
            value,
            reason: "this kernel can't idmap mounts",
        });
    }
    Ok(())
}

/// overlay separates layers by `:` and the runtime spec's readers options by `,`.
fn escape(path: &Path) -> String {
    path.display()
        .to_string()
        .replace('\\', "\\\\")
        .replace(':', "\\:")
        .replace(',', "\\,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_absolute_and_clean() {
        for (path, want) in [
            ("/a", "/a"),
            ("/a//b/./c/", "/a/b/c"),
            ("/a/../../b", "/b"),
            ("//x", "/x"),
        ] {
            assert_eq!(destination(path).unwrap(), Path::new(want));
        }
        for path in ["", "a", "./a", "/", "/a/..", "/..", "/a\0b"] {
            assert!(destination(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn the_root_propagates_as_its_mounts_do() {
        use Propagation::{
            PropagationBidirectional as Both, PropagationHostToContainer as In, PropagationPrivate as None,
        };
        for (order, want) in [
            (&[None, None][..], Option::None),
            (&[In, None], Some("rslave")),
            (&[In, Both, In, None], Some("rshared")),
        ] {
            assert_eq!(
                order.iter().fold(Option::None, |p, m| root_propagation(p, *m)),
                want
            );
        }
    }

    #[test]
    fn sources_must_be_able_to_propagate() {
        use Propagation::{
            PropagationBidirectional as Both, PropagationHostToContainer as In, PropagationPrivate as Alone,
        };
        use SourcePropagation::{Private, Shared, Slave};
        let config = proto::Mount {
            host_path: "/h".to_owned(),
            ..Default::default()
        };
        for (wanted, source, fine) in [
            (Alone, Private, true),
            (In, Private, false),
            (In, Slave, true),
            (In, Shared, true),
            (Both, Private, false),
            (Both, Slave, false),
            (Both, Shared, true),
        ] {
            assert_eq!(
                check_source(&config, wanted, source).is_ok(),
                fine,
                "{wanted:?} {source:?}"
            );
        }
    }
}
