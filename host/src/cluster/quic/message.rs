//! A question or an answer on a stream of its own: its length (4 bytes, little-endian), then its bytes.

use bytes::Bytes;
use quinn::{RecvStream, SendStream, WriteError};

use super::allowance::{Allowance, Held};
use super::lane::FRAME_MOST;

/// Reads a message when there's room for it; nothing when the stream ends before, or it's longer than any may be.
pub(super) async fn read(stream: &mut RecvStream, allowance: &Allowance) -> Option<(Bytes, Held)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.ok()?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_MOST {
        return None;
    }
    let held = allowance.take(length).await;
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.ok()?;
    Some((bytes.into(), held))
}

/// Writes a message and ends the stream.
pub(super) async fn write(stream: &mut SendStream, mut chunks: Vec<Bytes>) -> Result<(), WriteError> {
    let length: usize = chunks.iter().map(Bytes::len).sum();
    let head = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    chunks.insert(0, Bytes::copy_from_slice(&head));
    stream.write_all_chunks(&mut chunks).await?;
    // It's closed already when the other side has stopped it.
    let _ = stream.finish();
    Ok(())
}
