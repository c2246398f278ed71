//! Records as bytes: a number in as few as it needs, seven bits in each; a text or a list behind its length. Reading trusts
//! nothing, and texts stay where they lie. What a record means is not known here.

use crate::error::{Error, Result, ensure, err};
use std::borrow::Cow;

/// How many records may stand inside each other. Graphs within graphs are read by calls within calls.
const MOST_DEEP: usize = 128;

/// Elements that a list gets room for before they were read: a length may lie.
const MOST_FORESEEN: usize = 1024;

/// Something that is written as bytes and read back.
pub(super) trait Record<'a>: Sized {
    fn write(&self, to: &mut Vec<u8>);

    /// # Errors
    /// `Malformed` where the bytes are none of this.
    fn read(from: &mut Reader<'a>) -> Result<Self>;
}

/// All bytes of a record.
pub(super) fn to_bytes<'a>(record: &impl Record<'a>) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.write(&mut bytes);
    bytes
}

/// The record that these bytes are, all of them.
pub(super) fn from_bytes<'a, T: Record<'a>>(bytes: &'a [u8]) -> Result<T> {
    let mut from = Reader { rest: bytes, depth: 0 };
    let record = T::read(&mut from)?;
    ensure!(from.rest.is_empty(), Malformed, "the index is longer than what it says; compile the model again");
    Ok(record)
}

/// What was not read yet.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    depth: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Result<u8> {
        let (&byte, rest) = self.rest.split_first().ok_or_else(odd)?;
        self.rest = rest;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            ensure!(bits << shift >> shift == bits, Malformed, "a number is too large; compile the model again");
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(odd())
    }

    /// The length of a list or text; each element takes a byte or more.
    fn length(&mut self) -> Result<usize> {
        let length = usize::read(self)?;
        if length <= self.rest.len() { Ok(length) } else { Err(odd()) }
    }
}

/// What is said of bytes that nobody wrote.
#[cold]
pub(super) fn odd() -> Error {
    err!(Malformed, "the index is damaged; compile the model again")
}

impl Record<'_> for u64 {
    fn write(&self, to: &mut Vec<u8>) {
        let mut rest = *self;
        while rest >= 0x80 {
            to.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        to.push(rest as u8);
    }

    fn read(from: &mut Reader) -> Result<Self> {
        from.number()
    }
}

/// Numbers that go into 64 bits.
macro_rules! numbers {
    ($($number:ty),*) => { $(
        impl Record<'_> for $number {
            fn write(&self, to: &mut Vec<u8>) {
                (*self as u64).write(to);
            }

            fn read(from: &mut Reader) -> Result<Self> {
                from.number()?.try_into().map_err(|_| odd())
            }
        }
    )* };
}
numbers!(usize, u32);

/// The sign comes last, so that small numbers stay short.
impl Record<'_> for i64 {
    fn write(&self, to: &mut Vec<u8>) {
        ((self << 1) ^ (self >> 63)).cast_unsigned().write(to);
    }

    fn read(from: &mut Reader) -> Result<Self> {
        let number = from.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }
}

impl Record<'_> for bool {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }

    fn read(from: &mut Reader) -> Result<Self> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(odd()),
        }
    }
}

impl<'a> Record<'a> for Cow<'a, str> {
    fn write(&self, to: &mut Vec<u8>) {
        self.len().write(to);
        to.extend_from_slice(self.as_bytes());
    }

    fn read(from: &mut Reader<'a>) -> Result<Self> {
        let length = from.length()?;
        let (text, rest) = from.rest.split_at(length);
        from.rest = rest;
        std::str::from_utf8(text).map(Cow::Borrowed).map_err(|_| odd())
    }
}

impl Record<'_> for String {
    fn write(&self, to: &mut Vec<u8>) {
        Cow::Borrowed(self.as_str()).write(to);
    }

    fn read(from: &mut Reader) -> Result<Self> {
        Ok(Cow::read(from)?.into_owned())
    }
}

impl<'a, T: Record<'a>> Record<'a> for Vec<T> {
    fn write(&self, to: &mut Vec<u8>) {
        self.len().write(to);
        for element in self {
            element.write(to);
        }
    }

    fn read(from: &mut Reader<'a>) -> Result<Self> {
        let length = from.length()?;
        let mut list = Vec::with_capacity(length.min(MOST_FORESEEN));
        for _ in 0..length {
            list.push(T::read(from)?);
        }
        Ok(list)
    }
}

impl<'a, T: Record<'a>> Record<'a> for Option<T> {
    fn write(&self, to: &mut Vec<u8>) {
        self.is_some().write(to);
        if let Some(inner) = self {
            inner.write(to);
        }
    }

    fn read(from: &mut Reader<'a>) -> Result<Self> {
        if bool::read(from)? { T::read(from).map(Some) } else { Ok(None) }
    }
}

/// What may hold others of its kind.
impl<'a, T: Record<'a>> Record<'a> for Box<T> {
    fn write(&self, to: &mut Vec<u8>) {
        T::write(self, to);
    }

    fn read(from: &mut Reader<'a>) -> Result<Self> {
        ensure!(from.depth < MOST_DEEP, Limit, "more than {MOST_DEEP} graphs or operators within each other");
        from.depth += 1;
        let inner = T::read(from)?;
        from.depth -= 1;
        Ok(Box::new(inner))
    }
}

impl<'a, A: Record<'a>, B: Record<'a>> Record<'a> for (A, B) {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut Reader<'a>) -> Result<Self> {
        Ok((A::read(from)?, B::read(from)?))
    }
}

/// A struct is its fields, one behind the other.
macro_rules! fields {
    ($(impl<$a:lifetime> $name:ty { $($field:ident),* $(,)? })*) => { $(
        impl<$a> $crate::store::record::Record<$a> for $name {
            fn write(&self, to: &mut Vec<u8>) {
                $(self.$field.write(to);)*
            }

            fn read(from: &mut $crate::store::record::Reader<$a>) -> $crate::error::Result<Self> {
                Ok(Self { $($field: $crate::store::record::Record::read(from)?),* })
            }
        }
    )* };
}
pub(super) use fields;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn what_is_written_is_read_again() {
        type All<'a> = (Vec<(u64, i64)>, (Option<Cow<'a, str>>, (Box<bool>, Vec<Vec<usize>>)));
        let numbers = [(0, 0), (127, -1), (128, 1), (u64::MAX, i64::MIN), (1 << 63, i64::MAX), (300, -300)];
        let all: All = (numbers.to_vec(), (Some("näme".into()), (Box::new(true), vec![vec![], vec![1, 2]])));
        let bytes = to_bytes(&all);
        assert_eq!(from_bytes::<All>(&bytes).unwrap(), all);
        for length in 0..bytes.len() {
            assert_eq!(from_bytes::<All>(&bytes[..length]).unwrap_err().kind(), ErrorKind::Malformed, "{length}");
        }
        assert!(from_bytes::<All>(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn what_nobody_wrote_is_refused() {
        assert_eq!(from_bytes::<u64>(&[[0xff; 9].as_slice(), &[1]].concat()).unwrap(), u64::MAX);
        assert!(from_bytes::<u64>(&[[0xff; 9].as_slice(), &[2]].concat()).is_err());
        assert!(from_bytes::<u64>(&[0x80; 11]).is_err());
        assert!(from_bytes::<u32>(&to_bytes(&(1u64 << 32))).is_err());
        assert!(from_bytes::<bool>(&[2]).is_err());
        assert!(from_bytes::<Cow<str>>(&[1, 0xff]).is_err());
        assert!(from_bytes::<Vec<u64>>(&[0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]).is_err());
    }

    #[test]
    fn depth_is_bounded() {
        struct Nested(Option<Box<Nested>>);
        impl Record<'_> for Nested {
            fn write(&self, to: &mut Vec<u8>) {
                self.0.write(to);
            }

            fn read(from: &mut Reader) -> Result<Self> {
                Ok(Nested(Record::read(from)?))
            }
        }
        let bytes = |depth: usize| [vec![1; depth], vec![0]].concat();
        assert!(from_bytes::<Nested>(&bytes(MOST_DEEP)).is_ok_and(|nested| nested.0.is_some()));
        let error = from_bytes::<Nested>(&bytes(MOST_DEEP + 1)).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
    }
}
