//! `list`: all containers of a folder of states.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::args::Given;
use super::state::{Container, Shown};
use super::{Context, refused};
use crate::error::{Context as _, Error, Kind, Result};

pub(super) fn list(context: &mut Context, given: &Given) -> Result<i32> {
    let containers = load_all(context)?;
    let mut shown: Vec<Shown<'_>> = containers.iter().map(Shown::new).collect();
    for (container, shown) in containers.iter().zip(&mut shown) {
        shown.owner = owner_of(&container.folder.path);
    }
    if given.is_on("quiet") {
        let ids: String = shown.iter().map(|c| format!("{}\n", c.id)).collect();
        put(&ids)?;
        return Ok(0);
    }
    match given.get("format").unwrap_or("table") {
        "table" => put(&table(&shown))?,
        "json" if shown.is_empty() => put("null\n")?,
        "json" => {
            let text = serde_json::to_string(&shown).map_err(|source| Error::Parse {
                path: "list".into(),
                source,
            })?;
            put(&format!("{text}\n"))?;
        }
        _ => return Err(refused(Kind::InvalidArgument, "invalid format option")),
    }
    Ok(0)
}

/// What can't be read is passed over: it may be in the making, or somebody may be deleting it.
fn load_all(context: &Context) -> Result<Vec<Container>> {
    let entries = match std::fs::read_dir(&context.root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound && context.is_default_root => return Ok(Vec::new()),
        Err(e) => return Err(e).path("open", &context.root),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names
        .iter()
        .filter_map(|name| Container::load(context, name).ok())
        .collect())
}

/// Columns are at least 12 wide, with 3 blanks between.
fn table(shown: &[Shown<'_>]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let mut rows = vec![head];
    rows.extend(shown.iter().map(|c| {
        let bundle = c.bundle.display().to_string();
        [
            c.id.to_owned(),
            c.pid.to_string(),
            c.status.to_owned(),
            bundle,
            c.created.to_owned(),
            c.owner.clone(),
        ]
    }));
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].len() + 3)
            .max()
            .unwrap_or(0)
            .max(12)
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells: String = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{cells}{}\n", row[5])
    };
    rows.iter().map(line).collect()
}

/// The name of a folder's owner, or its number.
fn owner_of(folder: &Path) -> String {
    let Ok(uid) = std::fs::metadata(folder).map(|about| about.uid()) else {
        return String::new();
    };
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

/// Writes to standard output; a reader who has gone is no failure of ours to panic about.
pub(super) fn put(text: &str) -> Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .path("write to", "/dev/stdout")
}
