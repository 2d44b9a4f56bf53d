//! The ends of processes: reaping, draining, recording, telling.

use super::backend::{Backend, Ending, Job};
use super::container::{Container, Progress};
use super::event_loop::Monitor;
use super::execs::Exec;
use super::note::note;
use super::state::{State, Step};
use crate::log::{Stream, now};
use crate::protocol::{ErrorKind, Event, Exit, RemoteError, Reply};

const SIGKILL: i32 = nix::libc::SIGKILL;

/// Rounds of reading after an exit without going back to the loop; an output that still isn't empty has a writer that
/// outlives its container.
const ROUNDS: usize = 64;

impl Ending {
    pub(super) fn exit(self, oom_killed: bool) -> Exit {
        let (code, signal) = match self {
            Self::Code(code) => (code, None),
            Self::Signal(signal) => (128 + signal, Some(signal)),
        };
        Exit {
            code,
            signal,
            oom_killed,
            finished_at: now(),
        }
    }
}

impl<C> Container<C> {
    /// Nothing is to be waited for any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Exited { .. })
    }
}

impl<B: Backend> Monitor<B> {
    /// Takes note of every process that has ended.
    pub(super) fn reap(&mut self) {
        while let Some((pid, ending)) = self.backend.reap() {
            self.ended(pid, ending);
        }
    }

    fn ended(&mut self, pid: i32, ending: Ending) {
        self.tell_jobs(pid, ending);
        if self.sandbox.init == Some(pid) {
            self.sandbox.init = None;
            return self.broadcast(Event::SandboxInitExited {
                exit: ending.exit(false),
            });
        }
        // A pid can only be used again once its process was reaped, so at most one of these lives.
        let init = self
            .containers
            .values()
            .find(|c| c.pid == pid && c.state.is_alive())
            .map(|c| c.id.clone());
        if let Some(id) = init {
            return self.init_ended(&id, ending);
        }
        let exec = self
            .execs
            .iter()
            .find(|(_, exec)| matches!(exec, Exec::Running { pid: of, .. } if *of == pid))
            .map(|(id, _)| id.clone());
        if let Some(exec_id) = exec {
            self.exec_ended(&exec_id, ending);
        }
        // Everything else was an orphan, whose status is of no interest to anybody.
    }

    /// What is being made may have come to its end with this process.
    fn tell_jobs(&mut self, pid: i32, ending: Ending) {
        let mut makings = Vec::new();
        for (id, making) in &mut self.makings {
            making.job.child_ended(pid, ending);
            makings.push(id.clone());
        }
        let mut execs = Vec::new();
        for (id, exec) in &mut self.execs {
            if let Exec::Entering { job, .. } = exec {
                job.child_ended(pid, ending);
                execs.push(id.clone());
            }
        }
        for id in makings {
            self.advance_making(&id);
        }
        for id in execs {
            self.advance_exec(&id);
        }
    }

    fn init_ended(&mut self, id: &str, ending: Ending) {
        self.advance_start(id, true);
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let exit = ending.exit(self.backend.oom_killed(&container.kernel, ending));
        if let Err(refused) = container.step(Step::InitExited(exit)) {
            return note(format_args!("container {id}: {refused:?}"));
        }
        // With a pid namespace of its own the kernel has done so already.
        if let Err(error) = self.backend.signal_all(&container.kernel, SIGKILL) {
            note(format_args!("container {id}: {error}"));
        }
        container.peer = None;
        self.close_input(id);
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.drain(id, stream);
        }
        self.finish_if_drained(id, false);
    }

    /// Reads what a process that has ended left behind.
    fn drain(&mut self, id: &str, stream: Stream) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        for _ in 0..ROUNDS {
            match container.pump(stream, &mut self.scratch) {
                Progress::More => {}
                Progress::Empty => break,
                Progress::End => return self.end_output(id, stream),
            }
        }
        self.settle_attachments(id);
    }

    /// Closes an output that has ended, or is given up.
    pub(super) fn end_output(&mut self, id: &str, stream: Stream) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if let Some(source) = container.source(stream).take() {
            container.finish(stream, &mut self.scratch);
            self.unwatch_output(&source);
            self.end_sinks(id, stream);
        }
    }

    /// Closes both.
    pub(super) fn end_outputs(&mut self, id: &str) {
        self.end_output(id, Stream::Stdout);
        self.end_output(id, Stream::Stderr);
    }

    /// Records and tells an exit once the outputs are drained, or at once if they are given up.
    pub(super) fn finish_if_drained(&mut self, id: &str, give_up: bool) {
        let Some(container) = self.containers.get(id) else {
            return;
        };
        let State::Draining { exit, .. } = container.state else {
            return;
        };
        if container.stdout.is_some() || container.stderr.is_some() {
            if !give_up {
                return;
            }
            note(format_args!(
                "container {id}: somebody still holds its output open, which is closed now"
            ));
        }
        self.end_outputs(id);
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if let Err(refused) = container.step(Step::Drained) {
            return note(format_args!("container {id}: {refused:?}"));
        }
        container.record_exit(&exit);
        self.broadcast(Event::ContainerExited {
            id: id.to_owned(),
            exit,
        });
    }

    /// Kills all that lives in the pod; their ends come in by the usual way.
    pub(super) fn kill_everything(&mut self) {
        let makings: Vec<String> = self.makings.keys().cloned().collect();
        for id in makings {
            self.kill_making(&id);
        }
        let execs: Vec<String> = self.execs.keys().cloned().collect();
        for exec_id in execs {
            // It may have ended by itself.
            let _ = self.kill_exec(&exec_id);
        }
        for container in self.containers.values().filter(|c| c.state.is_alive()) {
            let killed = self.backend.signal_all(&container.kernel, SIGKILL);
            if let Err(error) = killed.and(self.backend.signal(&container.kernel, SIGKILL)) {
                note(format_args!("container {}: {error}", container.id));
            }
        }
        if let Some(init) = self.sandbox.init {
            self.backend.kill_tree(init);
        }
    }

    /// Removes every cgroup; goes on after a failure, and tells of all.
    pub(super) fn remove_everything(&mut self) -> Result<Reply, RemoteError> {
        let mut failures = Vec::new();
        for container in self.containers.values() {
            if let Err(error) = self.backend.remove(&container.kernel) {
                failures.push(format!("container {}: {error}", container.id));
            }
        }
        if failures.is_empty() {
            Ok(Reply::Done {})
        } else {
            Err(RemoteError::new(ErrorKind::Kernel, failures.join("; ")))
        }
    }
}
