//! What an exec'd process shares with the container's first one.

use std::fs;
use std::sync::Arc;

use oci_spec::runtime::{Process, Spec};

use super::{Container, ContainerState};
use crate::core::Core;
use crate::error::{Error, IoContext as _, Kind, Result};

impl Container {
    /// Fails unless the container runs.
    ///
    /// # Errors
    /// [`Error::WrongState`].
    pub fn must_run(&self) -> Result<()> {
        match self.state() {
            ContainerState::Running => Ok(()),
            state => Err(Error::WrongState {
                kind: Kind::Container,
                id: self.id.clone(),
                state: state.word(),
                needed: "running",
            }),
        }
    }

    /// `cmd` as a process of this container: its user, environment, folder, capabilities and limits.
    ///
    /// # Errors
    /// [`Error::Io`] where the container's spec can't be read.
    pub fn exec_process(&self, core: &Core, cmd: Vec<String>, terminal: bool) -> Result<Process> {
        let mut process = Process::clone(&*self.first_process(core)?);
        process.set_args(Some(cmd));
        process.set_terminal(Some(terminal));
        Ok(process)
    }

    /// The container's own process, read once from its bundle.
    fn first_process(&self, core: &Core) -> Result<Arc<Process>> {
        if let Some(process) = self.process.get() {
            return Ok(Arc::clone(process));
        }
        let path = core.paths.pod(&self.pod_id).bundle(&self.id).join("config.json");
        let text = fs::read(&path).io("read", &path)?;
        let spec: Spec = serde_json::from_slice(&text).map_err(|e| Error::Io {
            verb: "decode",
            path: path.clone(),
            source: e.into(),
        })?;
        let process = Arc::new(spec.process().clone().unwrap_or_default());
        Ok(Arc::clone(self.process.get_or_init(|| process)))
    }
}
