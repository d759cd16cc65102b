//! What a child says, as bytes, until it has been compared with what is wanted.

use std::io::Read as _;
use std::sync::{Mutex, PoisonError};

use flate2::read::DeflateDecoder;
use flate2::{Compress, Compression, FlushCompress, Status};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::controller::pipeline::compare;

/// What a child says, replicas, status and what the server keeps for itself left out.
#[derive(Clone, Debug)]
pub(super) struct Body {
    /// Of the bytes: two versions with the same digest say the same.
    digest: [u8; 16],
    text: Text,
}

#[derive(Clone, Debug)]
enum Text {
    /// JSON.
    Plain(Box<[u8]>),
    /// The same, deflated.
    Packed(Box<[u8]>),
    /// All that was wanted of it under this fingerprint. The fingerprint is part of what is wanted, so nothing wanted under
    /// another one can stand in it.
    AsWanted(u64),
}

impl Body {
    pub(super) fn new(object: &Value) -> Self {
        let plain = object.to_string().into_bytes();
        let mut digest = [0; 16];
        for (to, from) in digest.iter_mut().zip(Sha256::digest(&plain)) {
            *to = from;
        }
        Self {
            digest,
            text: Text::Plain(plain.into()),
        }
    }

    pub(super) fn is_as(&mut self, fingerprint: u64, wanted: &Value) -> bool {
        let live = match &self.text {
            Text::AsWanted(known) => return *known == fingerprint,
            Text::Plain(plain) => serde_json::from_slice(plain).ok(),
            Text::Packed(packed) => unpacked(packed),
        };
        let contained = live.is_some_and(|live| compare::contains(&live, wanted));
        if contained {
            self.text = Text::AsWanted(fingerprint);
        }
        contained
    }

    pub(super) fn settle(&mut self, known: &Self) {
        if self.digest == known.digest {
            self.text = known.text.clone();
        } else {
            self.pack();
        }
    }

    pub(super) fn pack(&mut self) {
        if let Text::Plain(plain) = &self.text
            && let Some(packed) = packed(plain)
        {
            self.text = Text::Packed(packed);
        }
    }
}

/// A deflater is a third of a MiB of tables: one for all, while there is a list to pack.
static DEFLATE: Mutex<Option<Compress>> = Mutex::new(None);

/// Gives back what packing took.
pub(super) fn packed_all() {
    *DEFLATE.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Absent if it would not be smaller.
fn packed(plain: &[u8]) -> Option<Box<[u8]>> {
    let mut slot = DEFLATE.lock().unwrap_or_else(PoisonError::into_inner);
    let deflate = slot.get_or_insert_with(|| Compress::new(Compression::fast(), false));
    deflate.reset();
    let mut packed = Vec::with_capacity(plain.len());
    let end = deflate.compress_vec(plain, &mut packed, FlushCompress::Finish);
    matches!(end, Ok(Status::StreamEnd)).then(|| packed.into_boxed_slice())
}

fn unpacked(packed: &[u8]) -> Option<Value> {
    let mut plain = Vec::new();
    DeflateDecoder::new(packed).read_to_end(&mut plain).ok()?;
    serde_json::from_slice(&plain).ok()
}
