//! Between the CRI's messages and the image store's types.

use pintle_images::{Auth, AuthFields, Image};

use crate::error::Result;
use crate::proto;

/// An image as the CRI shows it. `config.User` is a number or a name, with an optional group behind a colon.
pub fn to_proto(image: &Image) -> proto::Image {
    let user = image
        .config
        .config()
        .as_ref()
        .and_then(|config| config.user().as_deref())
        .unwrap_or_default();
    let user = user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok().map(|value| proto::Int64Value { value });
    proto::Image {
        id: image.id.clone(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        username: if uid.is_none() {
            user.to_owned()
        } else {
            String::new()
        },
        uid,
        spec: Some(proto::ImageSpec {
            image: image.id.clone(),
            annotations: image.annotations.clone(),
            ..proto::ImageSpec::default()
        }),
        pinned: image.pinned,
    }
}

/// What a container's status says of its image: a tag where there is one, and `repository@digest` where that is known.
pub fn names(image: &Image, asked_for: &str) -> (String, String) {
    let name = image.repo_tags.first().map_or(asked_for, String::as_str);
    let reference = image.repo_digests.first().unwrap_or(&image.id);
    (name.to_owned(), reference.clone())
}

/// Credentials as the CRI sends them; `None` where the message is empty.
///
/// # Errors
/// Where `auth` isn't base64 of `user:password`.
pub fn credentials(auth: proto::AuthConfig) -> Result<Option<Auth>> {
    Ok(Auth::from_fields(&AuthFields {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        server_address: auth.server_address,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    })?)
}
