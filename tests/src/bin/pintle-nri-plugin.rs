//! An NRI plugin to be installed: its socket is its standard input. It writes what it was asked, a method a line,
//! into the file that its configuration names.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use anyhow::Result;
use pintle_tests::nri::wire::Configure;
use pintle_tests::nri::{Answer, Plugin};
use prost::Message;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut log = String::new();
    let script = Box::new(move |asked: &pintle_tests::nri::Asked| {
        if asked.method == "Configure" {
            let configure = Configure::decode(asked.payload.as_slice());
            log = configure.map(|c| c.config.trim().to_owned()).unwrap_or_default();
        }
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .and_then(|mut file| writeln!(file, "{}", asked.method));
        match written {
            Ok(()) => Answer::Yes,
            Err(error) => Answer::No(format!("write {log:?}: {error}")),
        }
    });
    let name = std::env::var("NRI_PLUGIN_NAME")?;
    let index = std::env::var("NRI_PLUGIN_IDX")?;
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    let (reading, writing) = tokio::net::UnixStream::from_std(socket)?.into_split();
    let plugin = Plugin::run(reading, writing, &index, &name, script).await?;
    plugin.ended().await;
    Ok(())
}
