//! Damaged frames and hellos: the decoder never panics, never hangs, never takes more memory than
//! its bound.

use bytes::{BufMut, BytesMut};
use prost::Message;

use super::super::connection::FrameReader;
use super::super::wire::{Frame, Hello, HelloReply, encode_hello};
use super::*;
use crate::fuzz::{self, Random};

const MAX_FRAME: usize = 4096;

fn stream(random: &mut Random) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    bytes.put(encode_hello(&Hello {
        magic: 0x514C_5450,
        version: 1,
        min_version: 1,
        cluster_id: random.bytes(16),
        node_id: "n1".to_owned(),
        lane: random.below(5) as u32,
        ..Default::default()
    }));
    for _ in 0..random.below(5) {
        let len = random.below(200);
        let body = random.bytes(len).into();
        let frame = match random.below(3) {
            0 => Frame::request(random.next(), random.below(30) as u32, body),
            1 => Frame::response(random.next(), Ok(body)),
            _ => Frame::response(random.next(), Err(Error::config("CONFIG_X", "no"))),
        };
        let body = frame.encode_head(&mut bytes);
        bytes.put(body);
    }
    bytes.to_vec()
}

#[test]
fn no_bytes_from_a_peer_make_the_decoder_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    fuzz::run("wire decoder", |random| {
        let mut bytes = stream(random);
        random.mutate(&mut bytes);
        for from in [0, 4] {
            let piece = bytes.get(from..).unwrap_or_default();
            let _ = (Hello::decode(piece), HelloReply::decode(piece), Frame::decode(piece));
        }
        runtime.block_on(async {
            let mut reader = FrameReader::new(&bytes[..], MAX_FRAME);
            let mut left = bytes.len();
            // Every frame takes some of the bytes, so this ends.
            while let Ok(Some(_)) = reader.next_frame(FAILED).await {
                left = left.checked_sub(4).expect("more frames than bytes");
            }
        });
    });
}
