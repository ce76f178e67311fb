//! Images in tool results. Pure.
//!
//! A result's text has a sentence in the place of each image, and the images follow in the same order. A model port sends
//! both to a model that takes images, and another sentence for each image to one that takes none.
//!
//! Stored turns carry an image as base64, and only if all images of its result have at most `MAX_STORED_BYTES`
//! together: turns are kept in memory by the store and read whole by every new attempt. Larger images are shown to the
//! model in the attempt that made the call; a later attempt reads that they were shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
pub use legwork_models::conversation::Image;

/// The largest image, in bytes: the limit of Anthropic, which is the lowest of the large providers.
pub(crate) const MAX_BYTES: usize = 5 * 1024 * 1024;
/// The most images of one result.
pub(crate) const MAX_PER_RESULT: usize = 20;
/// The most bytes of base64 that the images of one stored result have together: a screenshot, about as much as eight
/// results of text.
pub(crate) const MAX_STORED_BYTES: usize = 256 * 1024;
/// About how many bytes of text cost a model as much as an image, whatever the length of its encoding.
pub(crate) const EQUIVALENT_TEXT_BYTES: usize = 6_000;

/// The beginnings of the formats that models take, with their media types.
const FORMATS: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
];

/// The image in these bytes. The media type is that of the format, whatever a file name or a server states.
///
/// # Errors
///
/// The sentence that takes its place: it is too large, or of no format that models take.
pub(crate) fn read(bytes: &[u8]) -> Result<Image, String> {
    let Some(media_type) = media_type(bytes) else {
        return Err(format!("[an image of an unknown format, {} bytes, which cannot be shown]", bytes.len()));
    };
    if bytes.len() > MAX_BYTES {
        return Err(format!(
            "[an image ({media_type}, {} bytes), larger than the 5 MiB that can be shown]",
            bytes.len()
        ));
    }
    Ok(Image { media_type: media_type.to_owned(), data: STANDARD.encode(bytes) })
}

/// The image in this base64, as protocols send it.
///
/// # Errors
///
/// As for [`read`], or it is not base64.
pub(crate) fn from_base64(data: &str) -> Result<Image, String> {
    // Checked before it is decoded, so that a huge one costs nothing.
    if data.len() / 4 * 3 > MAX_BYTES + 2 {
        return Err("[an image larger than the 5 MiB that can be shown]".to_owned());
    }
    match STANDARD.decode(data) {
        Ok(bytes) => read(&bytes),
        Err(_) => Err("[an image that is not valid base64]".to_owned()),
    }
}

/// The sentence that stands in the text of the result where the image belongs.
pub(crate) fn caption(image: &Image) -> String {
    format!("[an image ({}, {} bytes)]", image.media_type, image.bytes())
}

/// The media type of an image that models take, by its first bytes.
pub(crate) fn media_type(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some("image/webp");
    }
    FORMATS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, name)| *name)
}

/// Whether these images may be stored with their result.
pub(crate) fn are_stored(images: &[Image]) -> bool {
    images.iter().map(|image| image.data.len()).sum::<usize>() <= MAX_STORED_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_recognized_by_their_first_bytes() {
        for (bytes, expected) in [
            (&b"\x89PNG\r\n\x1a\nxyz"[..], Some("image/png")),
            (b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            (b"GIF89a", Some("image/gif")),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Some("image/webp")),
            (b"RIFF\x10\0\0\0WAVE", None),
            (b"<svg/>", None),
            (b"", None),
        ] {
            assert_eq!(media_type(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn an_image_is_encoded_and_bounded() {
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        let image = read(&bytes).unwrap();
        assert_eq!(
            (image.media_type.as_str(), image.data.as_str(), image.bytes()),
            ("image/png", "iVBORw0KGgo=", 8)
        );
        assert_eq!(from_base64(&image.data), Ok(image.clone()));
        assert_eq!(caption(&image), "[an image (image/png, 8 bytes)]");
        bytes.resize(MAX_BYTES, 0);
        assert_eq!(read(&bytes).unwrap().bytes(), MAX_BYTES);
        assert!(from_base64(&STANDARD.encode(&bytes)).is_ok());
        bytes.push(0);
        let too_large = "[an image (image/png, 5242881 bytes), larger than the 5 MiB that can be shown]";
        assert_eq!(read(&bytes).unwrap_err(), too_large);
        assert!(from_base64(&"A".repeat(MAX_BYTES * 2)).unwrap_err().contains("larger than"));
        assert!(from_base64("no base64").unwrap_err().contains("not valid base64"));
        assert!(from_base64("AAAA").unwrap_err().contains("unknown format"));
    }
}
