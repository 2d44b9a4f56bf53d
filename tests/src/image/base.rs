//! The small image that most tests run: Debian's statically linked busybox.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Builder, Format, Image, Layer, Packing};

const BUSYBOX: &str = "/bin/busybox";

/// The applets of the host's busybox.
pub fn applets() -> Result<Vec<String>> {
    let output = Command::new(BUSYBOX)
        .arg("--list")
        .output()
        .context("run /bin/busybox, which comes from Debian's package busybox-static (hack/setup)")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}

/// A root file system with busybox, a link per applet, and a user database.
pub fn busybox_layer() -> Result<Layer> {
    let program = fs::read(BUSYBOX)
        .context("read /bin/busybox, which comes from Debian's package busybox-static (hack/setup)")?;
    let mut layer = Layer::new();
    for dir in [
        "bin", "dev", "etc", "home", "proc", "root", "run", "sys", "usr", "var", "www",
    ] {
        layer = layer.dir(dir, 0o755);
    }
    layer = layer.dir("tmp", 0o1777).file("bin/busybox", 0o755, program);
    for applet in applets()?.iter().filter(|name| *name != "busybox") {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    Ok(layer
        .file(
            "etc/passwd",
            0o644,
            "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/www:/bin/false\n",
        )
        .file(
            "etc/group",
            0o644,
            "root:x:0:\nwww-data:x:33:\nstaff:x:50:www-data\n",
        )
        .file("www/index.html", 0o644, "served by busybox\n"))
}

/// The image itself: OCI, one gzip layer, a shell as its command. Made once in a process.
pub fn busybox() -> Result<Image> {
    static MADE: OnceLock<Image> = OnceLock::new();
    if let Some(image) = MADE.get() {
        return Ok(image.clone());
    }
    let image = make_busybox()?;
    Ok(MADE.get_or_init(|| image).clone())
}

fn make_busybox() -> Result<Image> {
    let layer = busybox_layer()?.finish();
    Builder::new(Format::Oci)
        .layer(layer, Packing::Gzip)
        .config("Cmd", json!(["/bin/sh"]))
        .build()
}
