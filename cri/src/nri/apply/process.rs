//! The first process: environment, arguments, limits.

use oci_spec::runtime as oci;

use crate::nri::NriError;
use crate::nri::adjust::owners::unmarked;
use crate::proto::nri::{KeyValue, PosixRlimit};

/// Variables keep their place; new ones come last.
pub(super) fn env(spec: &mut oci::Spec, wanted: Vec<KeyValue>) -> Result<(), NriError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let process = spec.process_mut().get_or_insert_default();
    let all = process.env_mut().get_or_insert_default();
    for entry in wanted {
        let (key, is_removal) = unmarked(&entry.key);
        if key.is_empty() || key.contains(['=', '\0']) || entry.value.contains('\0') {
            return Err(NriError::adjustment(
                "env",
                format!("{key:?} can't be a variable"),
            ));
        }
        let is_it = |variable: &String| variable.split('=').next() == Some(key);
        let place = all.iter().position(is_it);
        if is_removal {
            all.retain(|variable| !is_it(variable));
            continue;
        }
        let variable = format!("{key}={}", entry.value);
        match place {
            Some(place) => all[place] = variable,
            None => all.push(variable),
        }
    }
    Ok(())
}

pub(super) fn args(spec: &mut oci::Spec, wanted: Vec<String>) {
    if !wanted.is_empty() {
        spec.process_mut().get_or_insert_default().set_args(Some(wanted));
    }
}

pub(super) fn rlimits(spec: &mut oci::Spec, wanted: Vec<PosixRlimit>) -> Result<(), NriError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let process = spec.process_mut().get_or_insert_default();
    let mut all = process.rlimits().clone().unwrap_or_default();
    for limit in wanted {
        let kind: oci::PosixRlimitType = limit
            .r#type
            .parse()
            .map_err(|_| NriError::adjustment("rlimits", format!("there is no limit {:?}", limit.r#type)))?;
        if limit.soft > limit.hard {
            return Err(NriError::adjustment(
                "rlimits",
                format!("{}: {} is above {}", limit.r#type, limit.soft, limit.hard),
            ));
        }
        let made = oci::PosixRlimitBuilder::default()
            .typ(kind)
            .hard(limit.hard)
            .soft(limit.soft)
            .build()
            .map_err(|error| NriError::adjustment("rlimits", error.to_string()))?;
        all.retain(|other| other.typ() != kind);
        all.push(made);
    }
    process.set_rlimits(Some(all));
    Ok(())
}
