//! The second service on the socket: what the `pintle` command line asks for beyond the CRI (`proto/pintle.proto`).
//! The daemon does the work, so that the store has one writer.

mod archive;
mod progress;
mod transfer;
mod upkeep;

use std::sync::Arc;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::core::Core;
use crate::error::Result;
use crate::proto::admin::images_server::Images;
use crate::proto::admin::{
    Auth as AuthMessage, ExportChunk, ExportRequest, ImportRequest, PruneRequest, PruneResponse, PullRequest,
    PushRequest, TagRequest, TagResponse, TransferEvent, UntagRequest, UntagResponse, VerifiedLayer,
    VerifyRequest,
};

/// Messages on their way to the client.
type Stream<T> = ReceiverStream<Result<T, Status>>;
type Answer<T> = Result<Response<T>, Status>;

/// See the module's text.
#[derive(Clone)]
pub struct Admin {
    core: Arc<Core>,
}

impl Admin {
    /// The service, on `core`.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

fn credentials(auth: Option<AuthMessage>) -> Result<Option<pintle_images::Auth>> {
    let Some(auth) = auth else { return Ok(None) };
    Ok(pintle_images::Auth::from_fields(&pintle_images::AuthFields {
        username: auth.username,
        password: auth.password,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
        ..pintle_images::AuthFields::default()
    })?)
}

fn reply<T>(done: Result<T>) -> Answer<T> {
    done.map(Response::new).map_err(Status::from)
}

#[tonic::async_trait]
impl Images for Admin {
    type PullStream = Stream<TransferEvent>;
    async fn pull(&self, request: Request<PullRequest>) -> Answer<Self::PullStream> {
        reply(transfer::pull(&self.core, request.into_inner()))
    }

    type PushStream = Stream<TransferEvent>;
    async fn push(&self, request: Request<PushRequest>) -> Answer<Self::PushStream> {
        reply(transfer::push(&self.core, request.into_inner()))
    }

    type ImportStream = Stream<TransferEvent>;
    async fn import(&self, request: Request<Streaming<ImportRequest>>) -> Answer<Self::ImportStream> {
        archive::import(&self.core, request.into_inner())
            .await
            .map(Response::new)
    }

    type ExportStream = Stream<ExportChunk>;
    async fn export(&self, request: Request<ExportRequest>) -> Answer<Self::ExportStream> {
        Ok(Response::new(archive::export(&self.core, request.into_inner())))
    }

    type VerifyStream = Stream<VerifiedLayer>;
    async fn verify(&self, request: Request<VerifyRequest>) -> Answer<Self::VerifyStream> {
        Ok(Response::new(upkeep::verify(&self.core, request.into_inner())))
    }

    async fn tag(&self, request: Request<TagRequest>) -> Answer<TagResponse> {
        reply(upkeep::tag(&self.core, request.into_inner()).await)
    }

    async fn untag(&self, request: Request<UntagRequest>) -> Answer<UntagResponse> {
        reply(upkeep::untag(&self.core, request.into_inner()).await)
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Answer<PruneResponse> {
        reply(upkeep::prune(&self.core, request.into_inner()).await)
    }
}
