//! The table of ImageService: each RPC leads to the file of its name. What isn't done yet answers `Unimplemented`.

use tonic::{Request, Response, Status};

use super::{Service, image_fs_info, image_status, list_images, pull_image, remove_image};
use crate::error::Result;
use crate::proto::image_service_server::ImageService;
use crate::proto::*;

/// The streams of RPCs that aren't done yet.
type NoStream<T> = tokio_stream::Empty<Result<T, Status>>;
type Answer<T> = Result<Response<T>, Status>;

fn reply<T>(done: Result<T>) -> Answer<T> {
    done.map(Response::new).map_err(Status::from)
}

fn not_done<T>(rpc: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("{rpc} is not done yet")))
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(&self, request: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        reply(list_images::list_images(&self.core, request.into_inner()).await)
    }

    async fn image_status(&self, request: Request<ImageStatusRequest>) -> Answer<ImageStatusResponse> {
        reply(image_status::image_status(&self.core, request.into_inner()).await)
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        reply(pull_image::pull_image(&self.core, request.into_inner()).await)
    }

    async fn remove_image(&self, request: Request<RemoveImageRequest>) -> Answer<RemoveImageResponse> {
        reply(remove_image::remove_image(&self.core, request.into_inner()).await)
    }

    async fn image_fs_info(&self, request: Request<ImageFsInfoRequest>) -> Answer<ImageFsInfoResponse> {
        reply(image_fs_info::image_fs_info(&self.core, request.into_inner()).await)
    }

    type StreamImagesStream = NoStream<StreamImagesResponse>;
    async fn stream_images(&self, _: Request<StreamImagesRequest>) -> Answer<Self::StreamImagesStream> {
        not_done("StreamImages")
    }
}
