//! `pintle image …`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use tonic::Request;

use crate::connect::{Daemon, said};
use crate::proto::admin::{
    Auth, ExportRequest, LayerHealth, PruneRequest, PullRequest, PushRequest, TagRequest, UntagRequest,
    VerifyRequest,
};
use crate::proto::cri::{Image, ImageSpec, ImageStatusRequest, ListImagesRequest, RemoveImageRequest};
use crate::{archive, progress};

/// Where a password is read from that does not stand on the command line.
const PASSWORD: &str = "PINTLE_PASSWORD";
/// How much of an id tells images apart.
const SHORT: usize = 12;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists images.
    Ls {
        /// Only ids.
        #[arg(short, long)]
        quiet: bool,
    },
    /// Shows what is known of an image, as JSON.
    Inspect { image: String },
    /// Pulls an image.
    Pull {
        reference: String,
        #[command(flatten)]
        login: Login,
    },
    /// Pushes an image, under one of its own names or another.
    Push {
        image: String,
        target: Option<String>,
        #[command(flatten)]
        login: Login,
    },
    /// Takes images from an archive or an OCI image layout; - is standard input.
    Import {
        from: PathBuf,
        /// A name for the image; may be given several times.
        #[arg(short, long = "name")]
        names: Vec<String>,
    },
    /// Writes images as an archive that is an OCI image layout and what docker loads, or as a layout in a folder.
    Export {
        #[arg(required = true)]
        images: Vec<String>,
        /// A file, a folder (with a / at its end, if it is to be made), or - for standard output.
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Reads the layers of images again, or of all, and says which are not what they were.
    Verify { images: Vec<String> },
    /// Gives an image one more name.
    Tag { image: String, name: String },
    /// Takes a name away; the image stays.
    Untag { name: String },
    /// Removes images with all their names.
    Rm {
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Removes images that have no name and no container.
    Prune {
        /// Also those that have names.
        #[arg(short, long)]
        all: bool,
        /// Only say which.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args)]
pub(crate) struct Login {
    /// USER:PASSWORD; without a password it is taken from $PINTLE_PASSWORD.
    #[arg(long)]
    creds: Option<String>,
}

impl Login {
    fn auth(&self) -> Result<Option<Auth>> {
        let Some(creds) = &self.creds else { return Ok(None) };
        let (username, password) = match creds.split_once(':') {
            Some((user, password)) => (user.to_owned(), password.to_owned()),
            None => {
                let password = std::env::var(PASSWORD)
                    .with_context(|| format!("--creds has no password, and {PASSWORD} has none either"))?;
                (creds.clone(), password)
            }
        };
        Ok(Some(Auth {
            username,
            password,
            ..Auth::default()
        }))
    }
}

/// Runs one command.
pub(crate) async fn run(mut daemon: Daemon, command: Command) -> Result<()> {
    match command {
        Command::Ls { quiet } => list(&mut daemon, quiet).await,
        Command::Inspect { image } => inspect(&mut daemon, &image).await,
        Command::Pull { reference, login } => {
            let auth = login.auth()?;
            let events = daemon
                .images
                .pull(PullRequest { reference, auth })
                .await
                .map_err(said)?;
            print_ids(&progress::follow(events.into_inner()).await?.image_ids);
            Ok(())
        }
        Command::Push { image, target, login } => push(&mut daemon, image, target, &login).await,
        Command::Import { from, names } => {
            let (messages, reader) = archive::messages(archive::open(&from)?, names);
            let imported = match daemon.images.import(Request::new(messages)).await {
                Ok(events) => progress::follow(events.into_inner()).await,
                Err(status) => Err(said(status)),
            };
            reader.failure()?;
            print_ids(&imported?.image_ids);
            Ok(())
        }
        Command::Export { images, output } => {
            let chunks = daemon
                .images
                .export(ExportRequest { images })
                .await
                .map_err(said)?;
            archive::save(chunks.into_inner(), &output).await
        }
        Command::Verify { images } => verify(&mut daemon, images).await,
        Command::Tag { image, name } => {
            let tagged = daemon
                .images
                .tag(TagRequest { image, name })
                .await
                .map_err(said)?;
            print_ids(&[tagged.into_inner().image_id]);
            Ok(())
        }
        Command::Untag { name } => {
            let request = UntagRequest { name: name.clone() };
            let untagged = daemon.images.untag(request).await.map_err(said)?;
            if !untagged.into_inner().found {
                bail!("no image has the name {name:?}");
            }
            Ok(())
        }
        Command::Rm { images } => remove(&mut daemon, images).await,
        Command::Prune { all, dry_run } => {
            let pruned = daemon
                .images
                .prune(PruneRequest { all, dry_run })
                .await
                .map_err(said)?
                .into_inner();
            print_ids(&pruned.image_ids);
            eprintln!("{} images, {} freed", pruned.image_ids.len(), bytes(pruned.freed));
            Ok(())
        }
    }
}

fn print_ids(ids: &[String]) {
    ids.iter().for_each(|id| println!("{id}"));
}

fn bytes(count: u64) -> indicatif::HumanBytes {
    indicatif::HumanBytes(count)
}

fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(SHORT).collect()
}

async fn list(daemon: &mut Daemon, quiet: bool) -> Result<()> {
    let listed = daemon
        .cri
        .list_images(ListImagesRequest::default())
        .await
        .map_err(said)?;
    let mut images = listed.into_inner().images;
    images.sort_by(|a, b| (&a.repo_tags, &a.id).cmp(&(&b.repo_tags, &b.id)));
    if quiet {
        images.iter().for_each(|image| println!("{}", image.id));
        return Ok(());
    }
    let rows: Vec<(String, &Image)> = images
        .iter()
        .flat_map(|image| names(image).into_iter().map(move |name| (name, image)))
        .collect();
    let width = rows
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default()
        .max("NAME".len());
    println!("{:width$}  {:SHORT$}  SIZE", "NAME", "ID");
    for (name, image) in rows {
        println!(
            "{name:width$}  {:SHORT$}  {}",
            short(&image.id),
            bytes(image.size)
        );
    }
    Ok(())
}

/// The tags of an image; where it has none, a digest, or nothing.
fn names(image: &Image) -> Vec<String> {
    if !image.repo_tags.is_empty() {
        return image.repo_tags.clone();
    }
    vec![
        image
            .repo_digests
            .first()
            .cloned()
            .unwrap_or_else(|| "<none>".to_owned()),
    ]
}

async fn status(daemon: &mut Daemon, image: &str) -> Result<(Image, String)> {
    let request = ImageStatusRequest {
        image: Some(ImageSpec {
            image: image.to_owned(),
            ..ImageSpec::default()
        }),
        verbose: true,
    };
    let mut status = daemon.cri.image_status(request).await.map_err(said)?.into_inner();
    let found = status
        .image
        .with_context(|| format!("image {image:?} is not here"))?;
    Ok((found, status.info.remove("info").unwrap_or_default()))
}

async fn inspect(daemon: &mut Daemon, image: &str) -> Result<()> {
    let (found, info) = status(daemon, image).await?;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap_or_default();
    let shown = serde_json::json!({
        "id": found.id,
        "tags": found.repo_tags,
        "digests": found.repo_digests,
        "compressedBytes": found.size,
        "pinned": found.pinned,
        "annotations": found.spec.map(|spec| spec.annotations).unwrap_or_default(),
        "config": info["imageSpec"],
    });
    println!("{}", serde_json::to_string_pretty(&shown)?);
    Ok(())
}

async fn push(daemon: &mut Daemon, image: String, target: Option<String>, login: &Login) -> Result<()> {
    let auth = login.auth()?;
    let target = target.unwrap_or_else(|| image.clone());
    let request = PushRequest { image, target, auth };
    let events = daemon.images.push(request).await.map_err(said)?;
    let outcome = progress::follow(events.into_inner()).await?;
    println!("{}", outcome.digest);
    if !outcome.exact {
        eprintln!("layers were compressed anew: the digest is not the one that the image was pulled with");
    }
    Ok(())
}

async fn verify(daemon: &mut Daemon, images: Vec<String>) -> Result<()> {
    let layers = daemon
        .images
        .verify(VerifyRequest { images })
        .await
        .map_err(said)?;
    let mut layers = layers.into_inner();
    let (mut count, mut damaged) = (0, 0);
    while let Some(layer) = layers.message().await.map_err(said)? {
        count += 1;
        let state = match layer.health() {
            LayerHealth::Whole => "whole".to_owned(),
            LayerHealth::Unknown => "can't be told".to_owned(),
            LayerHealth::Damaged => {
                damaged += 1;
                format!("DAMAGED: {}", layer.reason)
            }
        };
        println!("{}  {state}", layer.diff_id);
    }
    if damaged > 0 {
        bail!("{damaged} of {count} layers are damaged: remove their images and pull them again");
    }
    Ok(())
}

async fn remove(daemon: &mut Daemon, images: Vec<String>) -> Result<()> {
    for image in images {
        // The CRI finds nothing wrong with removing what isn't there; whoever types a name may have mistyped it.
        let (found, _) = status(daemon, &image).await?;
        let request = RemoveImageRequest {
            image: Some(ImageSpec {
                image: found.id.clone(),
                ..ImageSpec::default()
            }),
        };
        daemon.cri.remove_image(request).await.map_err(said)?;
        println!("{}", found.id);
    }
    Ok(())
}
