//! The first bytes of a compiled model: for whom it was made, and how long its index is.

use super::digest::digest;
use crate::error::{Result, ensure, err};
use crate::kernels::arch::Isa;

/// Bytes of the header.
pub(super) const LENGTH: usize = 128;

/// Counts the changes of the layout of the file and of the packed forms in it.
const FORMAT: u32 = 3;

const MAGIC: &[u8; 8] = b"onrush\xc0\x01";

/// For whom a compiled model is good.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    /// The instruction set that weights are packed for.
    pub(crate) isa: Isa,
    /// The options that change what is compiled.
    pub(crate) options: String,
}

/// What the header says beside the stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) index: usize,
    pub(super) index_digest: u64,
    pub(super) file: usize,
}

impl Stamp {
    /// The part of the header that must be equal: 80 bytes.
    fn to_bytes(&self) -> [u8; 80] {
        let mut bytes = [0; 80];
        let mut put = |at: usize, most: usize, text: &[u8]| {
            let len = text.len().min(most);
            bytes[at..at + len].copy_from_slice(&text[..len]);
        };
        put(0, 8, MAGIC);
        put(8, 8, &FORMAT.to_le_bytes());
        put(16, 32, env!("CARGO_PKG_VERSION").as_bytes());
        put(48, 16, self.isa.name().as_bytes());
        put(64, 8, &digest(self.isa.features().as_bytes()).to_le_bytes());
        put(72, 8, &digest(self.options.as_bytes()).to_le_bytes());
        bytes
    }

    pub(super) fn header(&self, lengths: Lengths) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..80].copy_from_slice(&self.to_bytes());
        bytes[80..88].copy_from_slice(&(lengths.index as u64).to_le_bytes());
        bytes[88..96].copy_from_slice(&lengths.index_digest.to_le_bytes());
        bytes[96..104].copy_from_slice(&(lengths.file as u64).to_le_bytes());
        bytes
    }

    /// Checks the header of `file`, which must be for this stamp and as long as it was.
    ///
    /// # Errors
    /// `Malformed` where it is no compiled model or damaged, `Stale` where it is for somebody else.
    pub(super) fn check(&self, file: &[u8]) -> Result<Lengths> {
        let header = file
            .get(..LENGTH)
            .ok_or_else(|| err!(Malformed, "{} bytes are no compiled model; compile the model again", file.len()))?;
        let own = self.to_bytes();
        let text =
            |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim_end_matches('\0').to_owned();
        ensure!(header[..8] == own[..8], Malformed, "no compiled model of Onrush; load it as an ONNX model");
        let fields: [(&str, std::ops::Range<usize>, bool); 5] = [
            ("format of the file", 8..16, false),
            ("version of Onrush", 16..48, true),
            ("instruction set", 48..64, true),
            ("processor's features", 64..72, false),
            ("compile options", 72..80, false),
        ];
        for (name, range, is_text) in fields {
            if header[range.clone()] != own[range.clone()] {
                let which =
                    if is_text { format!(" {:?}, not {:?}", text(range), self.field(name)) } else { String::new() };
                return Err(err!(Stale, "made for another {name}{which}; compile the model again"));
            }
        }
        let number = |at: usize| header[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let size = |at: usize| usize::try_from(number(at)).unwrap_or(usize::MAX);
        let lengths = Lengths { index: size(80), index_digest: number(88), file: size(96) };
        let is_whole = lengths.file == file.len() && header[104..].iter().all(|&byte| byte == 0);
        ensure!(is_whole, Malformed, "the file is damaged or cut off; compile the model again");
        Ok(lengths)
    }

    fn field(&self, name: &str) -> &str {
        if name == "instruction set" { self.isa.name() } else { env!("CARGO_PKG_VERSION") }
    }
}
