//! Runtime handlers at work: which one a pod has, what it can do, and what makes its containers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use pintle_runtime::foreign::{self, Features};
use pintle_runtime::protocol::ForeignRuntime;

use crate::config::{Config, Handler, OciProgram};
use crate::core::Core;
use crate::error::{Error, IoContext as _, Kind, Result};
use crate::pod::PodRecord;
use crate::proto::{CgroupDriver, RuntimeHandlerFeatures};
use crate::spec::NodeFacts;

/// What the handlers' programs have said that they can do, by the handlers' names.
#[derive(Debug, Default)]
pub struct ProgramFeatures(HashMap<String, Features>);

impl ProgramFeatures {
    /// Asks every program. One that can't answer can do nothing special. Blocking, for some seconds at the most.
    ///
    /// # Errors
    /// A folder that can't be made.
    pub fn ask(config: &Config, driver: CgroupDriver) -> Result<Self> {
        let mut all = HashMap::new();
        for handler in config.handlers() {
            let Some(program) = &handler.program else { continue };
            fs::create_dir_all(&program.root).io("create folder", &program.root)?;
            let features = foreign::features(&command(program, driver, String::new()));
            let features = features.unwrap_or_else(|error| {
                tracing::warn!(
                    handler = handler.name, %error,
                    "a runtime doesn't say what it can do: no user namespaces and no recursive read-only mounts with it"
                );
                Features::default()
            });
            all.insert(handler.name.clone(), features);
        }
        Ok(Self(all))
    }
}

/// As the monitor runs it.
fn command(program: &OciProgram, driver: CgroupDriver, cgroup: String) -> ForeignRuntime {
    let mut options = program.options.clone();
    // Without it the program would take systemd's form of a cgroup for a path.
    const SYSTEMD: &str = "--systemd-cgroup";
    if driver == CgroupDriver::Systemd && !options.iter().any(|option| option == SYSTEMD) {
        options.push(SYSTEMD.to_owned());
    }
    ForeignRuntime {
        program: program.path.clone(),
        options,
        root: program.root.clone(),
        cgroup,
    }
}

impl Core {
    /// The runtime handler of this name; the empty name is the default one's.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn handler(&self, name: &str) -> Result<&Handler> {
        self.config.handler(name).ok_or_else(|| Error::NotFound {
            kind: Kind::Handler,
            id: name.to_owned(),
        })
    }

    /// A pod's runtime handler.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the configuration has it no longer.
    pub fn handler_of(&self, pod: &PodRecord) -> Result<&Handler> {
        self.handler(&pod.runtime_handler)
    }

    /// This machine, as far as a handler can make use of it.
    pub fn node_for(&self, handler: &Handler) -> Cow<'_, NodeFacts> {
        let Some(features) = self.features.0.get(&handler.name) else {
            return Cow::Borrowed(&self.node);
        };
        Cow::Owned(NodeFacts {
            recursive_read_only: self.node.recursive_read_only && features.recursive_read_only,
            user_namespaces: self.node.user_namespaces && features.idmap && MAPS_LAYERS,
            ..self.node.clone()
        })
    }

    /// What a handler can do, for Status.
    pub fn handler_features(&self, handler: &Handler) -> RuntimeHandlerFeatures {
        let node = self.node_for(handler);
        RuntimeHandlerFeatures {
            recursive_read_only_mounts: node.recursive_read_only,
            user_namespaces: node.user_namespaces,
        }
    }

    /// The folder below which lies what the containers of a pod write.
    pub fn layer_place(&self, pod: &str) -> PathBuf {
        let pod = self.pods.get(pod);
        let handler = pod.and_then(|pod| self.handler_of(&pod.cell.get()).ok());
        handler
            .and_then(|handler| handler.snapshots_dir.clone())
            .unwrap_or_else(|| self.paths.images())
    }

    /// What makes a handler's container in this cgroup; None for this runtime.
    pub fn foreign_runtime(&self, handler: &Handler, cgroup: &str) -> Option<ForeignRuntime> {
        let program = handler.program.as_ref()?;
        Some(command(program, self.node.cgroup_driver, cgroup.to_owned()))
    }
}

/// Whether layers are shown through a user namespace to a container that another runtime makes; not so far.
const MAPS_LAYERS: bool = false;
