//! What the machine can do at most: `limits FOLDER GZIP... -- ZSTD...` takes the steps of a pull one by one, each on one core
//! and with everything in memory, and by those who might do them. Shows lines of a table: step, by whom, seconds, MB/s.
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::Digest as _;

/// The steps are taken by stretches as long as pulls take them by.
const CHUNK: usize = 64 << 10;
/// How often a step is taken that leaves nothing on the disk.
const TIMES: usize = 5;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments
        .next()
        .ok_or("usage: limits FOLDER GZIP... -- ZSTD...")?;
    let paths: Vec<PathBuf> = arguments.collect();
    let mut halves = paths.split(|path| path.as_os_str() == "--");
    let gzip = read_all(halves.next().unwrap_or_default())?;
    let zstd = read_all(halves.next().unwrap_or_default())?;
    let layers: Vec<Vec<u8>> = gzip
        .iter()
        .map(|blob| whole_by_libdeflate(blob))
        .collect::<Result<_>>()?;
    let size: usize = layers.iter().map(Vec::len).sum();

    inflate(&gzip, &zstd, size)?;
    hash(&layers, size)?;
    parse(&layers, size)?;
    write(&folder, &layers, size)
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    Ok(paths.iter().map(fs::read).collect::<io::Result<_>>()?)
}

/// Takes a step so many times, and shows how long the best one took for so many bytes: others use the cores, too.
fn show(step: &str, by: &str, size: usize, times: usize, work: impl Fn() -> Result<()>) -> Result<()> {
    let mut seconds = f64::INFINITY;
    for _ in 0..times {
        let begin = Instant::now();
        work()?;
        seconds = seconds.min(begin.elapsed().as_secs_f64());
    }
    #[expect(clippy::cast_precision_loss, reason = "shown without digits")]
    let rate = size as f64 / 1e6 / seconds;
    println!("| {step} | {by} | {seconds:.2} | {rate:.0} |");
    Ok(())
}

fn drain(mut from: impl io::Read) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    while from.read(&mut buffer)? > 0 {
        std::hint::black_box(&mut buffer);
    }
    Ok(())
}

fn inflate(gzip: &[Vec<u8>], zstd: &[Vec<u8>], size: usize) -> Result<()> {
    show("inflate gzip", "zlib-rs, as in pulls", size, TIMES, || {
        gzip.iter()
            .try_for_each(|blob| drain(flate2::bufread::MultiGzDecoder::new(blob.as_slice())))
    })?;
    show("inflate gzip", "miniz_oxide", size, TIMES, || {
        gzip.iter().try_for_each(|blob| by_miniz(blob))
    })?;
    show(
        "inflate gzip",
        "libdeflate, whole layers only",
        size,
        TIMES,
        || {
            gzip.iter()
                .try_for_each(|blob| whole_by_libdeflate(blob).map(drop))
        },
    )?;
    show("inflate zstd", "libzstd, as in pulls", size, TIMES, || {
        zstd.iter()
            .try_for_each(|blob| drain(zstd::stream::read::Decoder::with_buffer(blob.as_slice())?))
    })
}

/// Where the deflate stream of a gzip member without further fields begins (RFC 1952).
const GZIP_HEADER: usize = 10;

fn by_miniz(blob: &[u8]) -> Result<()> {
    let mut state = miniz_oxide::inflate::stream::InflateState::new_boxed(miniz_oxide::DataFormat::Raw);
    let mut from = blob.get(GZIP_HEADER..).ok_or("no gzip")?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let step =
            miniz_oxide::inflate::stream::inflate(&mut state, from, &mut buffer, miniz_oxide::MZFlush::None);
        from = &from[step.bytes_consumed..];
        match step.status {
            Ok(miniz_oxide::MZStatus::StreamEnd) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(format!("{error:?}").into()),
        }
    }
}

/// Needs the layer in one piece, compressed and not; its length is in the last four bytes (RFC 1952).
fn whole_by_libdeflate(blob: &[u8]) -> Result<Vec<u8>> {
    let length = blob.last_chunk().map(|length| u32::from_le_bytes(*length));
    let mut plain = vec![0; length.ok_or("no gzip")? as usize];
    libdeflater::Decompressor::new().gzip_decompress(blob, &mut plain)?;
    Ok(plain)
}

fn hash(layers: &[Vec<u8>], size: usize) -> Result<()> {
    show("SHA-256", "sha2, as in pulls", size, TIMES, || {
        for layer in layers {
            let mut hasher = sha2::Sha256::new();
            layer.chunks(CHUNK).for_each(|chunk| hasher.update(chunk));
            std::hint::black_box(hasher.finalize());
        }
        Ok(())
    })?;
    show("SHA-256", "ring", size, TIMES, || {
        for layer in layers {
            let mut hasher = ring::digest::Context::new(&ring::digest::SHA256);
            layer.chunks(CHUNK).for_each(|chunk| hasher.update(chunk));
            std::hint::black_box(hasher.finish());
        }
        Ok(())
    })
}

fn parse(layers: &[Vec<u8>], size: usize) -> Result<()> {
    show("parse tar", "the `tar` crate, as in pulls", size, TIMES, || {
        for layer in layers {
            for entry in tar::Archive::new(layer.as_slice()).entries()? {
                let mut entry = entry?;
                std::hint::black_box((entry.path_bytes(), entry.header().mode()?));
                drain(&mut entry)?;
            }
        }
        Ok(())
    })?;
    show(
        "parse tar",
        "nobody: the bytes are only copied",
        size,
        TIMES,
        || layers.iter().try_for_each(|layer| drain(layer.as_slice())),
    )
}

fn write(folder: &Path, layers: &[Vec<u8>], size: usize) -> Result<()> {
    let path = folder.join("limits");
    show("write", "one file, and fsync(2)", size, 1, || {
        let mut file = File::create(&path)?;
        layers.iter().try_for_each(|layer| file.write_all(layer))?;
        Ok(file.sync_all()?)
    })?;
    fs::remove_file(&path)?;
    show(
        "write",
        "all files, by the `tar` crate, and syncfs(2)",
        size,
        1,
        || {
            for (number, layer) in layers.iter().enumerate() {
                let mut archive = tar::Archive::new(layer.as_slice());
                archive.set_preserve_permissions(true);
                archive.set_preserve_ownerships(true);
                archive.unpack(path.join(number.to_string()))?;
            }
            Ok(rustix::fs::syncfs(File::open(folder)?)?)
        },
    )?;
    Ok(fs::remove_dir_all(&path)?)
}
