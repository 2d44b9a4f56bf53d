//! The table of settings of `[runtimes.NAME]`, as `keys` has those of all other sections.

use super::keys::{Key, key};

/// What a section `[runtimes.NAME]` may say beside the settings of `[runtime]`; names are without the section.
pub(super) const HANDLER_KEYS: &[Key] = &[
    key(
        "path",
        r#""""#,
        "Another OCI runtime's program, with runc's command line, that makes the handler's containers. Empty: this one does.",
    ),
    key(
        "options",
        "[]",
        "Options that stand before the program's commands.",
    ),
    key(
        "root",
        r#""""#,
        "Where the program keeps what it knows of containers. Empty: runtimes/NAME in the state folder.",
    ),
    key(
        "base_spec",
        r#""""#,
        "File with parts of a runtime spec, as JSON, that containers get where they have none of their own. Empty: none.",
    ),
    key(
        "snapshots_dir",
        r#""""#,
        "Folder for what its containers write, on another disk for instance. Empty: the image store's.",
    ),
    key(
        "cni_conf_dir",
        r#""""#,
        "Folder of the CNI configuration for its pods, which must have one then. Empty: as network says.",
    ),
    key(
        "devices",
        "[]",
        "Devices of every container, as host[:container[:rwm]].",
    ),
    key(
        "device_rules",
        "[]",
        "Further devices that may be used, as \"c 10:200 rwm\".",
    ),
];
