//! Image references: the distribution grammar and Docker's normalisation
//! (`busybox` means `docker.io/library/busybox:latest`).

use std::fmt;

use crate::digest::{Digest, DigestError};
use crate::error::Error;

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A normalised image reference; it always has a tag or a digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image reference. Positions count characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// There is no text, or nothing before the tag or digest.
    #[error("it has no name")]
    NoName,
    /// A character that the grammar does not allow there.
    #[error("character {character:?} at position {position} is not allowed in the {part}")]
    Character {
        /// The offending character.
        character: char,
        /// Its place in the reference, from 1.
        position: usize,
        /// Which part it stands in.
        part: &'static str,
    },
    /// A part that must not be empty is.
    #[error("the {part} at position {position} is empty")]
    Empty {
        /// Where the part should begin, from 1.
        position: usize,
        /// Which part is missing.
        part: &'static str,
    },
    /// A separator at the beginning or end of a path component.
    #[error("the {part} must begin and end with a letter or digit (position {position})")]
    Separator {
        /// The place of the separator, from 1.
        position: usize,
        /// Which part it stands in.
        part: &'static str,
    },
    /// The port is no number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// Name or tag longer than the grammar allows.
    #[error("the {part} is longer than {limit} characters")]
    TooLong {
        /// Which part is too long.
        part: &'static str,
        /// The longest allowed.
        limit: usize,
    },
    /// 64 hex digits are an image id, never a name.
    #[error("64 hex digits are an image id, not a name")]
    LooksLikeId,
    /// The part after `@` is not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Reference {
    /// Parses and normalises `text`.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] names the reference and the offending character.
    pub fn parse(text: &str) -> Result<Reference, Error> {
        Parser { text }
            .reference()
            .map_err(|reason| Error::InvalidReference {
                reference: text.to_owned(),
                reason,
            })
    }

    /// The registry's domain with its port, e.g. `docker.io` or `localhost:5000`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository's path in the registry, e.g. `library/busybox`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Domain and path, e.g. `docker.io/library/busybox`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag, if there is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one; it then decides, and the tag does not count.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// `repository:tag` when the tag decides, that is when there is no digest.
    #[must_use]
    pub fn tag_name(&self) -> Option<String> {
        let tag = self.tag.as_ref().filter(|_| self.digest.is_none())?;
        Some(format!("{}/{}:{tag}", self.domain, self.path))
    }

    /// `repository@digest` for a given digest.
    #[must_use]
    pub fn digest_name(&self, digest: &Digest) -> String {
        format!("{}/{}@{digest}", self.domain, self.path)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

struct Parser<'a> {
    text: &'a str,
}

impl Parser<'_> {
    fn reference(&self) -> Result<Reference, ReferenceError> {
        let (rest, digest) = match self.text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (self.text, None),
        };
        let (name, tag) = split_tag(rest);
        if name.is_empty() {
            return Err(ReferenceError::NoName);
        }
        if let Some(tag) = tag {
            self.tag(tag, name.len() + 1)?;
        }
        let (domain, path, path_at) = split_domain(name);
        if let Some(domain) = domain {
            self.domain(domain)?;
        } else if Digest::from_hex(path).is_some() {
            return Err(ReferenceError::LooksLikeId);
        }
        self.path(path, path_at)?;
        let reference = normalise(domain, path, tag, digest);
        if reference.domain.len() + 1 + reference.path.len() > MAX_NAME {
            return Err(ReferenceError::TooLong {
                part: "name",
                limit: MAX_NAME,
            });
        }
        Ok(reference)
    }

    fn position(&self, offset: usize) -> usize {
        self.text
            .get(..offset)
            .map_or(1, |before| before.chars().count() + 1)
    }

    /// Refuses the first character of `part_text` (at byte `at` of the whole) that `allowed` refuses.
    fn characters(
        &self,
        part_text: &str,
        at: usize,
        part: &'static str,
        allowed: impl Fn(char) -> bool,
    ) -> Result<(), ReferenceError> {
        match part_text.char_indices().find(|&(_, c)| !allowed(c)) {
            Some((i, character)) => Err(ReferenceError::Character {
                character,
                position: self.position(at + i),
                part,
            }),
            None => Ok(()),
        }
    }

    fn tag(&self, tag: &str, at: usize) -> Result<(), ReferenceError> {
        const PART: &str = "tag";
        if tag.is_empty() {
            return Err(ReferenceError::Empty {
                position: self.position(at),
                part: PART,
            });
        }
        self.characters(tag, at, PART, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
        })?;
        if tag.starts_with(['.', '-']) {
            return Err(ReferenceError::Separator {
                position: self.position(at),
                part: PART,
            });
        }
        if tag.len() > MAX_TAG {
            return Err(ReferenceError::TooLong {
                part: PART,
                limit: MAX_TAG,
            });
        }
        Ok(())
    }

    fn domain(&self, domain: &str) -> Result<(), ReferenceError> {
        const PART: &str = "registry's host";
        let (host, port) = split_port(domain);
        if let Some(port) = port {
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            if !digits || !port.parse::<u16>().is_ok_and(|port| port > 0) {
                return Err(ReferenceError::Port);
            }
        }
        if let Some(address) = host.strip_prefix('[') {
            let address = address.strip_suffix(']').unwrap_or(address);
            return self.characters(address, 1, PART, |c| c.is_ascii_hexdigit() || c == ':');
        }
        self.characters(host, 0, PART, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '.' | '-')
        })?;
        let mut at = 0;
        for label in host.split('.') {
            if label.is_empty() {
                return Err(ReferenceError::Empty {
                    position: self.position(at),
                    part: PART,
                });
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(ReferenceError::Separator {
                    position: self.position(at),
                    part: PART,
                });
            }
            at += label.len() + 1;
        }
        Ok(())
    }

    fn path(&self, path: &str, mut at: usize) -> Result<(), ReferenceError> {
        const PART: &str = "name";
        for component in path.split('/') {
            if component.is_empty() {
                return Err(ReferenceError::Empty {
                    position: self.position(at),
                    part: PART,
                });
            }
            self.component(component, at, PART)?;
            at += component.len() + 1;
        }
        Ok(())
    }

    /// `[a-z0-9]+` runs joined by `.`, `_`, `__` or any number of `-`.
    fn component(&self, component: &str, at: usize, part: &'static str) -> Result<(), ReferenceError> {
        let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        self.characters(component, at, part, |c| alnum(c) || matches!(c, '.' | '_' | '-'))?;
        let mut run_at = 0;
        for run in component.split(alnum).filter(|run| !run.is_empty()) {
            // `split` yields what lies between letters: find it again to know its place.
            let start = run_at + component[run_at..].find(run).unwrap_or(0);
            run_at = start + run.len();
            if start == 0 || run_at == component.len() {
                return Err(ReferenceError::Separator {
                    position: self.position(at + start),
                    part,
                });
            }
            if !(matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-')) {
                let character = run.chars().nth(1).unwrap_or('.');
                return Err(ReferenceError::Character {
                    character,
                    position: self.position(at + start + 1),
                    part,
                });
            }
        }
        Ok(())
    }
}

/// Splits a tag off: the last `:` after the last `/`.
fn split_tag(rest: &str) -> (&str, Option<&str>) {
    let last = rest.rfind('/').map_or(0, |slash| slash + 1);
    match rest[last..].rfind(':') {
        Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
        None => (rest, None),
    }
}

/// The first component is a domain if it can't be part of a path, as Docker decides it.
fn split_domain(name: &str) -> (Option<&str>, &str, usize) {
    match name.split_once('/') {
        Some((first, rest)) if is_domain(first) => (Some(first), rest, first.len() + 1),
        _ => (None, name, 0),
    }
}

fn is_domain(first: &str) -> bool {
    first.contains(['.', ':', '[']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase())
}

/// Splits `host:port`, with brackets around an IPv6 address.
pub(crate) fn split_port(domain: &str) -> (&str, Option<&str>) {
    let after_address = domain.rfind(']').map_or(0, |bracket| bracket + 1);
    match domain[after_address..].find(':') {
        Some(colon) => (
            &domain[..after_address + colon],
            Some(&domain[after_address + colon + 1..]),
        ),
        None => (domain, None),
    }
}

fn normalise(domain: Option<&str>, path: &str, tag: Option<&str>, digest: Option<Digest>) -> Reference {
    let domain = match domain {
        None | Some(LEGACY_DOMAIN) => DEFAULT_DOMAIN,
        Some(domain) => domain,
    };
    let official = domain == DEFAULT_DOMAIN && !path.contains('/');
    let path = if official {
        format!("{OFFICIAL_PREFIX}{path}")
    } else {
        path.to_owned()
    };
    let tag = match (tag, &digest) {
        (None, None) => Some("latest".to_owned()),
        (tag, _) => tag.map(str::to_owned),
    };
    Reference {
        domain: domain.to_owned(),
        path,
        tag,
        digest,
    }
}

#[cfg(test)]
mod tests;
