//! The bytes: compatible with protobuf and with what earlier releases wrote.

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use prost::Message;

use super::super::connection::FrameReader;
use super::super::wire::{Frame, Hello, HelloReply, MAX_HEAD, WireError, encode_hello};
use super::*;

#[test]
fn the_bytes_of_version_1_do_not_change() {
    let hello = Hello {
        magic: 0x514C_5450,
        version: 1,
        min_version: 1,
        cluster_id: vec![0xAB; 2],
        node_id: "n1".to_owned(),
        lane: 2,
        ..Default::default()
    };
    let bytes = b"\0\0\0\x13\x0d\x50\x54\x4c\x51\x10\x01\x18\x01\x22\x02\xab\xab\x2a\x02n1\x30\x02";
    assert_eq!(&encode_hello(&hello)[..], bytes);

    let mut frame = BytesMut::new();
    let body = Frame::request(300, 7, Bytes::from_static(b"abc")).encode_head(&mut frame);
    frame.put(body);
    assert_eq!(&frame[..], b"\0\0\0\x0c\x08\xac\x02\x10\x01\x18\x07\x2a\x03abc");
}

#[test]
fn an_error_always_fits_into_a_frame() {
    let error = Error::new(ErrorKind::Sql, "X".repeat(10_000), "é".repeat(1_000_000))
        .with_leader(Some("l".repeat(1_000_000)));
    let frame = Frame::response(u64::MAX, Err(error));
    assert!(frame.encoded_len() < MAX_HEAD, "{}", frame.encoded_len());
}

#[test]
fn an_unknown_kind_of_error_keeps_its_code() {
    let error = WireError { kind: "Novel".into(), code: "NOVEL".into(), ..WireError::default() };
    let error = Error::from(error);
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "NOVEL"));
}

proptest! {
    #[test]
    fn a_frame_is_encoded_as_protobuf_does(id: u64, method: u32, body in prop::collection::vec(any::<u8>(), 0..400)) {
        let frame = Frame::request(id, method, body.into());
        let mut bytes = BytesMut::new();
        let body = frame.clone().encode_head(&mut bytes);
        bytes.put(body);
        let content = bytes.split_off(4);
        prop_assert_eq!(u32::from_be_bytes(bytes[..].try_into().unwrap()) as usize, content.len());
        prop_assert_eq!(&content[..], &frame.encode_to_vec()[..]);
        prop_assert_eq!(Frame::decode(content.freeze()).unwrap(), frame);
    }

    #[test]
    fn no_bytes_make_the_reader_panic_or_hang(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Hello::decode(&bytes[..]);
        let _ = HelloReply::decode(&bytes[..]);
        let _ = Frame::decode(&bytes[..]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut reader = FrameReader::new(&bytes[..], 100);
            while let Ok(Some(_)) = reader.next_frame(FAILED).await {}
        });
    }
}
