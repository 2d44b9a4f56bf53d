//! What the machine can do at most: `limits FOLDER BLOB...` inflates gzip blobs, hashes them, and writes what comes out,
//! each by itself and on one core, and tells the seconds that each takes.
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::time::Instant;

use sha2::Digest as _;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().unwrap_or_default();
    let blobs: Vec<Vec<u8>> = arguments.map(fs::read).collect::<io::Result<_>>()?;

    let begin = Instant::now();
    let mut plain = Vec::new();
    for blob in &blobs {
        flate2::bufread::MultiGzDecoder::new(blob.as_slice()).read_to_end(&mut plain)?;
    }
    println!("inflate {:.2}", begin.elapsed().as_secs_f64());

    let begin = Instant::now();
    for bytes in blobs.iter().chain([&plain]) {
        std::hint::black_box(sha2::Sha256::digest(bytes));
    }
    println!("hash {:.2}", begin.elapsed().as_secs_f64());

    let path = folder.join("limits");
    let begin = Instant::now();
    let mut file = File::create(&path)?;
    file.write_all(&plain)?;
    file.sync_all()?;
    println!("write {:.2}", begin.elapsed().as_secs_f64());
    fs::remove_file(path)
}
