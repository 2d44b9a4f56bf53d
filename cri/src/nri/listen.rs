//! Plugins that connect: the socket, and how a plugin registers.
//!
//! ```text
//! plugin                                   runtime
//!   ├─ RegisterPlugin(name, index) ──────────▶│
//!   │◀──────────────── Configure(config, …) ──┤
//!   │◀──────────── Synchronize(what is there) ┤    join.rs
//!   │◀──────────────────────────── events ────┤
//!   ├─ UpdateContainers(limits, evictions) ──▶│    at any time
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};

use super::link::{Inbound, Link};
use super::plugin::{Plugin, full_name};
use super::ttrpc::{self, Response};
use super::{NriError, join, updates};
use crate::core::Core;
use crate::proto::nri::{ConfigureRequest, Empty, RegisterPluginRequest, UpdateContainersRequest};

const SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";
/// Mode of the socket: whoever can connect decides what containers may do.
const MODE: u32 = 0o600;
/// Plugins that may be connected at once.
const MOST: usize = 64;
/// A pause after the kernel refuses a connection, as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Who a plugin is, where the daemon knows it already.
#[derive(Debug, Clone)]
pub(super) struct Installed {
    /// Two digits and a name.
    pub(super) name: String,
    /// Its configuration; empty for none.
    pub(super) config: String,
}

/// Listens in the background. A socket that can't be had is logged.
pub(super) fn listen(core: &Arc<Core>) {
    let path = &core.nri.config.socket_path;
    let listener = match crate::daemon::listen(path, MODE) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(socket = %path.display(), %error, "no NRI plugin can connect");
            return;
        }
    };
    core.nri.listens.store(true, Ordering::Relaxed);
    tracing::info!(socket = %path.display(), "NRI plugins may connect");
    let core = Arc::clone(core);
    tokio::spawn(async move {
        let room = Arc::new(Semaphore::new(MOST));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((socket, _)) => {
                    let core = Arc::clone(&core);
                    tokio::spawn(async move {
                        if let Err(error) = serve(&core, socket, None).await {
                            tracing::warn!(%error, "an NRI plugin could not join");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "an NRI plugin could not connect");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
}

/// Serves one plugin until it is gone.
///
/// # Errors
/// It could not join.
pub(super) async fn serve(
    core: &Arc<Core>,
    socket: UnixStream,
    installed: Option<Installed>,
) -> Result<(), NriError> {
    let plugin = admit(core, socket, installed).await?;
    plugin.wait_gone().await;
    Ok(())
}

/// Lets a plugin register and join. It is served in the background from then on.
///
/// # Errors
/// It took too long, or is not what it should be. It is cut off then.
pub(super) async fn admit(
    core: &Arc<Core>,
    socket: UnixStream,
    installed: Option<Installed>,
) -> Result<Arc<Plugin>, NriError> {
    let (link, calls) = Link::open(socket);
    let admitted = register_and_join(core, &link, calls, installed).await;
    if admitted.is_err() {
        link.close();
    }
    admitted
}

async fn register_and_join(
    core: &Arc<Core>,
    link: &Arc<Link>,
    mut calls: mpsc::Receiver<Inbound>,
    installed: Option<Installed>,
) -> Result<Arc<Plugin>, NriError> {
    let config = &core.nri.config;
    let limit = config.plugin_registration_timeout;
    let known = installed.as_ref().map_or("(unnamed)", |i| i.name.as_str());
    let registered = tokio::time::timeout(limit, register(link, &mut calls, installed.as_ref())).await;
    let name =
        registered.map_err(|_| NriError::join(known, format!("it did not register within {limit:?}")))??;
    let request = ConfigureRequest {
        config: installed.map(|i| i.config).unwrap_or_default(),
        runtime_name: "pintle".to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        registration_timeout: millis(limit),
        request_timeout: millis(config.plugin_request_timeout),
        nri_version: "v0.12.2".to_owned(),
    };
    let plugin = Plugin::configure(name, Arc::clone(link), request, config.plugin_request_timeout).await?;
    let plugin = Arc::new(plugin);
    // It may ask for updates while it is given what there is.
    tokio::spawn(answer(
        Arc::clone(core),
        Arc::clone(link),
        calls,
        plugin.name.clone(),
    ));
    join::join(core, &plugin).await?;
    tracing::info!(plugin = plugin.name, "an NRI plugin has joined");
    Ok(plugin)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Waits for the plugin's name. An installed one has the name of its file, whatever it says.
async fn register(
    link: &Link,
    calls: &mut mpsc::Receiver<Inbound>,
    installed: Option<&Installed>,
) -> Result<String, NriError> {
    let known = installed.map_or("(unnamed)", |i| i.name.as_str());
    let call = calls
        .recv()
        .await
        .ok_or_else(|| NriError::join(known, "the connection was closed"))?;
    if call.request.service != SERVICE || call.request.method != "RegisterPlugin" {
        link.answer(
            &call,
            &Response::failure(ttrpc::INVALID_ARGUMENT, "register first"),
        );
        return Err(NriError::join(known, "it did something before it registered"));
    }
    let request: RegisterPluginRequest = prost::Message::decode(call.request.payload.as_slice())
        .map_err(|_| NriError::join(known, "its registration can't be decoded"))?;
    let name = match installed {
        Some(installed) => Ok(installed.name.clone()),
        None => full_name(&request.plugin_idx, &request.plugin_name),
    };
    let answer = match &name {
        Ok(_) => Response::of(&Empty {}),
        Err(error) => Response::failure(ttrpc::INVALID_ARGUMENT, error.to_string()),
    };
    link.answer(&call, &answer);
    name
}

/// Answers the calls of a plugin, one after the other, until it is gone.
async fn answer(core: Arc<Core>, link: Arc<Link>, mut calls: mpsc::Receiver<Inbound>, plugin: String) {
    while let Some(call) = calls.recv().await {
        let request = &call.request;
        let response = match (request.service.as_str(), request.method.as_str()) {
            (SERVICE, "UpdateContainers") => {
                match <UpdateContainersRequest as prost::Message>::decode(request.payload.as_slice()) {
                    Ok(wanted) => Response::of(&updates::unasked(&core, &plugin, wanted).await),
                    Err(_) => Response::failure(ttrpc::INVALID_ARGUMENT, "the request can't be decoded"),
                }
            }
            (SERVICE, "RegisterPlugin") => {
                Response::failure(ttrpc::INVALID_ARGUMENT, "this plugin has registered")
            }
            _ => Response::failure(ttrpc::UNIMPLEMENTED, "there is no such method"),
        };
        link.answer(&call, &response);
    }
}
