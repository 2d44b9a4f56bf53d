//! Names of devices: `vendor.com/class=name`.

/// A device's name, in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// `vendor.com/class`.
    pub(super) kind: &'a str,
    /// Within the kind.
    pub(super) device: &'a str,
}

impl<'a> Name<'a> {
    /// Takes a qualified name apart.
    pub(super) fn parse(text: &'a str) -> Result<Self, &'static str> {
        let (kind, device) = text.split_once('=').ok_or("expected vendor/class=name")?;
        check_kind(kind)?;
        check_device(device)?;
        Ok(Self { kind, device })
    }
}

/// `vendor/class`.
pub(super) fn check_kind(kind: &str) -> Result<(), &'static str> {
    let (vendor, class) = kind.split_once('/').ok_or("expected vendor/class")?;
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let begins = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
    let ends = |text: &str| text.ends_with(|c: char| c.is_ascii_alphanumeric());
    if !(begins(vendor) && ends(vendor) && vendor.chars().all(inside)) {
        return Err(
            "the vendor begins with a letter, ends with a letter or digit, and has letters, digits, _ - . between",
        );
    }
    if !(begins(class) && ends(class) && class.chars().all(inside)) {
        return Err(
            "the class begins with a letter, ends with a letter or digit, and has letters, digits, _ - . between",
        );
    }
    Ok(())
}

/// The part after `=`.
pub(super) fn check_device(device: &str) -> Result<(), &'static str> {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    let edge = |c: char| c.is_ascii_alphanumeric();
    if device.starts_with(edge) && device.ends_with(edge) && device.chars().all(inside) {
        return Ok(());
    }
    Err("a device's name begins and ends with a letter or digit, and has letters, digits, _ - . : between")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_or_refused() {
        let name = Name::parse("vendor.com/gpu.big=0:1").unwrap();
        assert_eq!((name.kind, name.device), ("vendor.com/gpu.big", "0:1"));
        for bad in [
            "",
            "gpu",
            "vendor.com/gpu",
            "/gpu=0",
            "vendor.com/=0",
            "vendor.com/gpu=",
            "1v/gpu=0",
            "v/g/u=0",
            "v/gpu=-0",
            "v/gpu=0-",
            "v./gpu=0",
            "v/g pu=0",
            "v/gpu=ä",
            "v/gpu=0=1",
        ] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }
}
