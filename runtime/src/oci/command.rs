//! The table of commands, and the help that comes from it.

use super::args::{Flag, Given, switch, value};
use super::{
    Context, checkpoint, create, delete, events, exec, features, kill, list, pause, ps, spec, start, state,
    update,
};
use crate::error::Result;

/// A command.
pub(super) struct Command {
    pub(super) name: &'static str,
    words: &'static str,
    about: &'static str,
    pub(super) flags: &'static [Flag],
    /// Whether flags may follow words.
    pub(super) mixed: bool,
    /// Whether it makes a process in a container, from inside of which this program must not be written to.
    pub(super) enters: bool,
    /// The exit code of a failure.
    pub(super) failure: i32,
    pub(super) run: fn(&mut Context, &Given) -> Result<i32>,
}

const BUNDLE: Flag = value("bundle", "b", "folder of the bundle (default: the current one)");
const CONSOLE: Flag = value(
    "console-socket",
    "",
    "socket that is given the master of the terminal",
);
const PID_FILE: Flag = value("pid-file", "", "file to write the process's pid to");
const PRESERVE: Flag = value(
    "preserve-fds",
    "",
    "number of descriptors from 3 on that the process inherits",
);
const NO_PIVOT: Flag = switch(
    "no-pivot",
    "",
    "move the root mount instead of pivoting, for a root on a ramdisk",
);
const NO_KEYRING: Flag = switch("no-new-keyring", "", "stay in the caller's session keyring");
const IMAGES: Flag = value("image-path", "", "folder of criu's images (default: checkpoint)");
const WORK: Flag = value(
    "work-path",
    "",
    "folder of criu's logs (default: that of the images)",
);
const TCP: Flag = switch("tcp-established", "", "keep TCP connections");
const UNIX: Flag = switch("ext-unix-sk", "", "allow unix sockets that lead outside");
const JOB: Flag = switch("shell-job", "", "allow another session's terminal");
const LOCKS: Flag = switch("file-locks", "", "keep file locks");
const CGROUPS: Flag = value(
    "manage-cgroups-mode",
    "",
    "accepted for compatibility: the specification decides",
);
const PIDFD: Flag = value("pidfd-socket", "", "socket that is given a pidfd of the process");

const fn command(
    name: &'static str,
    words: &'static str,
    about: &'static str,
    flags: &'static [Flag],
    run: fn(&mut Context, &Given) -> Result<i32>,
) -> Command {
    Command {
        name,
        words,
        about,
        flags,
        mixed: true,
        enters: false,
        failure: 1,
        run,
    }
}

const COMMANDS: &[Command] = &[
    Command {
        enters: true,
        ..command(
            "create",
            "<container-id>",
            "create a container",
            &[BUNDLE, CONSOLE, PIDFD, PID_FILE, NO_PIVOT, NO_KEYRING, PRESERVE],
            create::create,
        )
    },
    command(
        "start",
        "<container-id>",
        "start a created container",
        &[],
        start::start,
    ),
    Command {
        enters: true,
        ..command(
            "run",
            "<container-id>",
            "create and run a container",
            &[
                BUNDLE,
                CONSOLE,
                PIDFD,
                switch("detach", "d", "don't wait for the container's end"),
                switch("keep", "", "don't delete the container after its end"),
                PID_FILE,
                switch("no-subreaper", "", "don't adopt processes that lose their parent"),
                NO_PIVOT,
                NO_KEYRING,
                PRESERVE,
            ],
            create::run,
        )
    },
    Command {
        enters: true,
        mixed: false,
        failure: 255,
        ..command(
            "exec",
            "<container-id> <command> [arguments]",
            "run a further process in a container",
            &[
                CONSOLE,
                PIDFD,
                value("cwd", "", "working folder"),
                value("env", "e", "environment variable"),
                switch("tty", "t", "give it a terminal"),
                value("user", "u", "uid[:gid]"),
                value("additional-gids", "g", "further groups"),
                value("process", "p", "process.json"),
                switch("detach", "d", "don't wait for its end"),
                PID_FILE,
                value("process-label", "", "SELinux label"),
                value("apparmor", "", "AppArmor profile"),
                switch("no-new-privs", "", "set no_new_privs"),
                value("cap", "c", "capability to add"),
                PRESERVE,
                value("cgroup", "", "[controller:]path of a sub group to run it in"),
                switch("ignore-paused", "", "also in a paused container"),
            ],
            exec::exec,
        )
    },
    command(
        "checkpoint",
        "<container-id>",
        "write down what a container's processes are, by criu",
        &[
            IMAGES,
            WORK,
            switch("leave-running", "", "don't end the container"),
            TCP,
            UNIX,
            JOB,
            LOCKS,
            switch("link-remap", "", "give open files without a name another one"),
            CGROUPS,
        ],
        checkpoint::checkpoint,
    ),
    Command {
        enters: true,
        ..command(
            "restore",
            "<container-id>",
            "make a container of what checkpoint wrote",
            &[
                BUNDLE,
                CONSOLE,
                PID_FILE,
                IMAGES,
                WORK,
                switch("detach", "d", "don't wait for the container's end"),
                switch("no-subreaper", "", "accepted for compatibility"),
                NO_PIVOT,
                TCP,
                UNIX,
                JOB,
                LOCKS,
                CGROUPS,
            ],
            checkpoint::restore,
        )
    },
    command(
        "state",
        "<container-id>",
        "print the state of a container",
        &[],
        state::print,
    ),
    command(
        "list",
        "",
        "list containers",
        &[
            value("format", "f", "table or json (default: table)"),
            switch("quiet", "q", "only the ids"),
        ],
        list::list,
    ),
    Command {
        mixed: false,
        ..command(
            "ps",
            "<container-id> [ps options]",
            "show the processes of a container",
            &[value("format", "f", "table or json (default: table)")],
            ps::ps,
        )
    },
    command(
        "kill",
        "<container-id> [signal]",
        "send a signal to a container's init (default: SIGTERM)",
        &[switch("all", "a", "to all of its processes")],
        kill::kill,
    ),
    command(
        "delete",
        "<container-id>",
        "delete what is left of a container",
        &[switch("force", "f", "kill it if it still runs")],
        delete::delete,
    ),
    command(
        "pause",
        "<container-id>",
        "suspend all processes of a container",
        &[],
        pause::pause,
    ),
    command(
        "resume",
        "<container-id>",
        "resume a paused container",
        &[],
        pause::resume,
    ),
    command(
        "update",
        "<container-id>",
        "change a container's limits",
        update::FLAGS,
        update::update,
    ),
    command(
        "events",
        "<container-id>",
        "print statistics, and when memory runs out",
        &[
            value("interval", "", "time between statistics (default: 5s)"),
            switch("stats", "", "print statistics once"),
        ],
        events::events,
    ),
    command(
        "features",
        "",
        "print what this runtime can do",
        &[],
        features::print,
    ),
    command(
        "spec",
        "",
        "write a config.json to start from",
        &[BUNDLE, switch("rootless", "", "for a user without privileges")],
        spec::write,
    ),
];

/// The command of that name.
pub(super) fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// Name and version, build, and version of the specification, each on a line.
pub(super) fn version() -> String {
    format!(
        "pintle-oci version {}\ncommit: {}\nspec: {}",
        env!("CARGO_PKG_VERSION"),
        option_env!("PINTLE_COMMIT").unwrap_or("unknown"),
        super::features::NEWEST_SPEC
    )
}

/// Help on everything.
pub(super) fn help(global: &[Flag]) -> String {
    let commands: String = COMMANDS
        .iter()
        .map(|c| format!("   {:<10}{}\n", c.name, c.about))
        .collect();
    format!(
        "NAME:\n   pintle-oci - run containers as the Open Container Initiative specifies them\n\n\
         USAGE:\n   pintle-oci [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {}\n\nCOMMANDS:\n{commands}\nGLOBAL OPTIONS:\n{}",
        env!("CARGO_PKG_VERSION"),
        list_flags(global)
    )
}

/// Help on one command.
pub(super) fn help_of(command: &Command) -> String {
    format!(
        "NAME:\n   pintle-oci {0} - {1}\n\nUSAGE:\n   pintle-oci {0} [command options] {2}\n\nOPTIONS:\n{3}",
        command.name,
        command.about,
        command.words,
        list_flags(command.flags)
    )
}

fn list_flags(flags: &[Flag]) -> String {
    let line = |flag: &Flag| {
        let value = if flag.takes_value { " value" } else { "" };
        let mut names = format!("--{}{value}", flag.long);
        if !flag.short.is_empty() {
            names += &format!(", -{}{value}", flag.short);
        }
        format!("   {names:<34}{}\n", flag.help)
    };
    flags.iter().map(line).collect()
}
