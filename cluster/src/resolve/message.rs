//! The part of DNS messages (RFC 1035, section 4) that a question for addresses needs.
//!
//! A recursive server follows aliases itself and answers with the whole chain, so every address in the answer section
//! is one of the name asked for. Whatever does not parse is an error; nothing here can read outside the message.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordType {
    A = 1,
    Aaaa = 28,
}

const INTERNET: u16 = 1;
const RESPONSE: u16 = 0x8000;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const CODE: u16 = 0x000f;
const NO_SUCH_NAME: u16 = 3;

/// A query for the addresses of `name`.
pub(super) fn query(id: u16, name: &str, kind: RecordType) -> io::Result<Vec<u8>> {
    let mut message = Vec::with_capacity(name.len() + 18);
    for field in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend(field.to_be_bytes());
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length));
        let length = length.ok_or_else(|| malformed("a part of a host name has 1 to 63 characters"))?;
        message.push(length);
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend((kind as u16).to_be_bytes());
    message.extend(INTERNET.to_be_bytes());
    Ok(message)
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// The addresses; none when the name has none of this kind or does not exist.
    Addresses(Vec<IpAddr>),
    /// There is more than fits: ask by TCP.
    Truncated,
    /// Not the answer to this question.
    Other,
}

impl Response {
    pub(super) fn parse(message: &[u8], id: u16, kind: RecordType) -> io::Result<Self> {
        let mut rest = Reader(message);
        let (its_id, flags) = (rest.u16()?, rest.u16()?);
        let (questions, answers) = (rest.u16()?, rest.u16()?);
        rest.take(4)?;
        if its_id != id || flags & RESPONSE == 0 {
            return Ok(Self::Other);
        }
        match flags & CODE {
            0 if flags & TRUNCATED != 0 => return Ok(Self::Truncated),
            0 => {}
            NO_SUCH_NAME => return Ok(Self::Addresses(Vec::new())),
            code => return Err(io::Error::other(format!("it failed with code {code}"))),
        }
        for _ in 0..questions {
            rest.name()?;
            rest.take(4)?;
        }
        let mut addresses = Vec::new();
        for _ in 0..answers {
            rest.name()?;
            let (its_kind, class) = (rest.u16()?, rest.u16()?);
            rest.take(4)?;
            let length = rest.u16()?;
            let data = rest.take(usize::from(length))?;
            if class != INTERNET || its_kind != kind as u16 {
                continue;
            }
            let v4 = <[u8; 4]>::try_from(data).map(|octets| Ipv4Addr::from(octets).into());
            let v6 = <[u8; 16]>::try_from(data).map(|octets| Ipv6Addr::from(octets).into());
            addresses.push(v4.or(v6).map_err(|_| malformed("an address has 4 or 16 bytes"))?);
        }
        Ok(Self::Addresses(addresses))
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| malformed("a message is cut"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> io::Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Skips a name: labels, until an empty one or a pointer to where the rest is.
    fn name(&mut self) -> io::Result<()> {
        loop {
            match self.take(1)?[0] {
                0 => return Ok(()),
                length if length & 0xc0 == 0xc0 => return self.take(1).map(|_| ()),
                length if length & 0xc0 == 0 => self.take(usize::from(length))?,
                _ => return Err(malformed("a name has a label of an unknown form")),
            };
        }
    }
}

pub(super) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
