//! Configuration files and command lines of the daemons.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Kind, Setup};
use crate::cgroups::Driver;
use crate::slot::Slot;

/// Where Debian's package containernetworking-plugins puts its programs.
const CNI_BIN: &str = "/usr/lib/cni";

/// The socket of the slot's daemon.
pub(super) fn socket(slot: &Slot) -> PathBuf {
    slot.state().join("cri.sock")
}

/// Writes the configuration; answers with the program and its arguments.
pub(super) fn write(slot: &Slot, setup: &Setup) -> Result<(OsString, Vec<OsString>)> {
    for folder in [slot.root().join("cni"), slot.state()] {
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    }
    if setup.cni {
        link_cni_programs(slot)?;
        fs::write(slot.root().join("cni/10-test.conflist"), cni(slot))?;
    }
    match setup.kind {
        Kind::Pintle => {
            let config = slot.root().join("config.toml");
            fs::write(&config, pintle(slot, setup))?;
            Ok((pintled()?.into(), vec!["--config".into(), config.into()]))
        }
        Kind::ContainerdRunc => {
            let config = containerd(slot, setup, "/usr/sbin/runc")?;
            Ok(("containerd".into(), vec!["--config".into(), config.into()]))
        }
        Kind::ContainerdCrun => {
            // crun wants nothing to do with v1 hierarchies that have a cgroup2 beside them: hide that one.
            let config = containerd(slot, setup, "/usr/bin/crun")?;
            let script = "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; \
                          exec containerd --config \"$1\"";
            let arguments = ["--mount", "--propagation", "private", "sh", "-c", script, "sh"];
            let arguments = arguments.into_iter().map(OsString::from).chain([config.into()]);
            Ok(("unshare".into(), arguments.collect()))
        }
    }
}

/// A folder with the CNI programs, to which a test can add its own.
fn link_cni_programs(slot: &Slot) -> Result<()> {
    let folder = slot.root().join("cni-bin");
    fs::create_dir_all(&folder)?;
    for name in ["bridge", "host-local", "loopback", "portmap"] {
        let program = Path::new(CNI_BIN).join(name);
        ensure!(
            program.is_file(),
            "{CNI_BIN}/{name} comes from Debian's containernetworking-plugins (hack/setup)"
        );
        if !folder.join(name).exists() {
            symlink(&program, folder.join(name))?;
        }
    }
    Ok(())
}

/// `pintled` in the folder that `PINTLE_BIN` names.
fn pintled() -> Result<PathBuf> {
    let folder = std::env::var_os("PINTLE_BIN")
        .context("PINTLE_BIN is not set: it names the folder with pintled and pintle-monitor (hack/build)")?;
    let program = PathBuf::from(folder).join("pintled");
    ensure!(
        program.is_file(),
        "{} does not exist: build it with hack/build",
        program.display()
    );
    Ok(program)
}

fn pintle(slot: &Slot, setup: &Setup) -> String {
    let root = slot.root();
    format!(
        "root = \"{root}/daemon\"\n\
         state = \"{state}\"\n\
         socket = \"{socket}\"\n\
         log_level = \"{log_level}\"\n\
         cgroup_driver = \"{driver}\"\n\
         [network]\n\
         bridge = \"{bridge}\"\n\
         ranges = [\"{subnet}\"]\n\
         cni_conf_dir = \"{root}/cni\"\n\
         cni_bin_dirs = [\"{root}/cni-bin\"]\n\
         [nri]\n\
         socket_path = \"{state}/nri.sock\"\n\
         plugin_path = \"{root}/nri-plugins\"\n\
         plugin_config_path = \"{root}/nri-conf\"\n\
         {extra}\n",
        root = root.display(),
        state = slot.state().display(),
        socket = socket(slot).display(),
        driver = Driver::from_env().name(),
        bridge = slot.bridge(),
        subnet = slot.subnet(),
        log_level = setup.log_level,
        extra = setup.extra_config,
    )
}

fn containerd(slot: &Slot, setup: &Setup, runtime: &str) -> Result<PathBuf> {
    let path = slot.root().join("containerd.toml");
    let text = format!(
        "version = 2\n\
         root = \"{root}/daemon\"\n\
         state = \"{state}\"\n\
         [grpc]\n\
         address = \"{socket}\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\n\
         path = \"{root}/opt\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n\
         sandbox_image = \"{pause}\"\n\
         restrict_oom_score_adj = true\n\
         stream_server_address = \"127.0.0.1\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
         bin_dir = \"{root}/cni-bin\"\n\
         conf_dir = \"{root}/cni\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n\
         runtime_type = \"io.containerd.runc.v2\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n\
         BinaryName = \"{runtime}\"\n",
        root = slot.root().display(),
        state = slot.state().display(),
        socket = socket(slot).display(),
        pause = setup.pause_image,
    );
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// A bridge with masquerade and port maps: what the built-in network does.
fn cni(slot: &Slot) -> String {
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "{bridge}", "plugins": [
  {{"type": "bridge", "bridge": "{bridge}", "isGateway": true, "ipMasq": true, "hairpinMode": true,
    "ipam": {{"type": "host-local", "dataDir": "{root}/ipam",
             "ranges": [[{{"subnet": "{subnet}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}
"#,
        bridge = slot.bridge(),
        subnet = slot.subnet(),
        root = slot.root().display(),
    )
}
