//! The table of ImageService: each RPC leads to the file of its name.

use tonic::{Request, Response, Status};

use super::stream_lists::{self, Parts};
use super::{Service, image_fs_info, image_status, list_images, pull_image, remove_image};
use crate::error::Result;
use crate::proto::image_service_server::ImageService;
use crate::proto::*;

type Answer<T> = Result<Response<T>, Status>;

fn reply<T>(done: Result<T>) -> Answer<T> {
    done.map(Response::new).map_err(Status::from)
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

    type StreamImagesStream = Parts<StreamImagesResponse>;
    async fn stream_images(&self, request: Request<StreamImagesRequest>) -> Answer<Self::StreamImagesStream> {
        reply(stream_lists::images(&self.core, request.into_inner()).await)
    }
}
