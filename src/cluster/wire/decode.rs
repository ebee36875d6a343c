//! Reads a [`Message`]. The inverse of [`encode`](super::encode).

use bytes::{Buf, Bytes};
use bytestring::ByteString;

use super::{
    Body, Change, Committed, CommittedRow, Content, DecodeError, Direction, HEADER_LEN, Heartbeat,
    Kind, Live, Message, Numbered, Stored, VERSION, header,
};
use crate::log::{Epoch, Seq};

/// The most entries for which memory is reserved before they are read.
const MAX_RESERVED: usize = 1_024;

type Decoded<T> = Result<T, DecodeError>;

/// See [`Message::decode`].
pub(super) fn message(mut bytes: Bytes) -> Decoded<Message> {
    if bytes.first().is_some_and(|version| *version != VERSION) {
        return Err(DecodeError::Unknown);
    }
    let header = header(&bytes).ok_or(DecodeError::Malformed)?;
    let kind = header.kind.ok_or(DecodeError::Unknown)?;
    bytes.advance(HEADER_LEN);
    Ok(Message {
        author: header.author,
        nonce: header.nonce,
        at: header.at,
        body: BusReader(bytes).body(kind)?,
    })
}

/// The part of a message that is not read yet.
struct BusReader(Bytes);

impl BusReader {
    fn body(&mut self, kind: Kind) -> Decoded<Body> {
        Ok(match kind {
            Kind::Stored => Body::Stored(self.stored()?),
            Kind::Live => Body::Live(self.live()?),
            Kind::Erasure => Body::Erasure,
            Kind::Erased => Body::Erased {
                erasure: self.seq()?,
                seqs: self.list(Self::seq)?,
            },
            Kind::Committed => Body::Committed(Committed {
                prev: self.seq()?,
                head: self.seq()?,
                epoch: Epoch::new(self.varint()? as i64),
                rows: self.list(Self::row)?,
            }),
            Kind::Elsewhere => Body::Elsewhere {
                topic: self.text()?,
                event: self.text()?,
                payload: self.content()?,
            },
            Kind::Presence => Body::Presence(self.bytes()?),
            Kind::Counts => Body::Counts(self.bytes()?),
            Kind::Heartbeat => Body::Heartbeat(Heartbeat {
                started: self.time()?,
                leaving: self.byte()? != 0,
                name: self.text()?,
            }),
            Kind::PollRequest => Body::PollRequest(self.numbered()?),
            Kind::PollAnswer => Body::PollAnswer(self.numbered()?),
            Kind::Pruned => Body::Pruned {
                through: self.seq()?,
            },
            Kind::Look => Body::Look,
        })
    }

    fn stored(&mut self) -> Decoded<Stored> {
        let flags = self.byte()?;
        let has = |flag| flags & flag != 0;
        let event = self.text()?;
        let client_ref = has(Stored::NAMED).then(|| self.text()).transpose()?;
        let change = match (has(Stored::UPDATE), has(Stored::DELETE)) {
            (false, false) => None,
            (true, false) => Some(Change::Update(self.seq()?)),
            (false, true) => Some(Change::Delete(self.seq()?)),
            (true, true) => return Err(DecodeError::Malformed),
        };
        Ok(Stored {
            event,
            client_ref,
            change,
            payload: self.text()?,
        })
    }

    fn row(&mut self) -> Decoded<CommittedRow> {
        let mut row = Self(self.bytes()?);
        Ok(CommittedRow {
            seq: row.seq()?,
            at: row.time()?,
            message: row.stored()?,
        })
    }

    fn live(&mut self) -> Decoded<Live> {
        let direction = match self.byte()? {
            Direction::ALL => Direction::All,
            Direction::TO => Direction::To(self.bytes()?),
            Direction::CLOSE_ALL => Direction::Close(None),
            Direction::CLOSE => Direction::Close(Some(self.bytes()?)),
            _ => return Err(DecodeError::Unknown),
        };
        Ok(Live {
            direction,
            event: self.text()?,
            payload: self.content()?,
        })
    }

    fn content(&mut self) -> Decoded<Content> {
        match self.byte()? {
            Content::JSON => self.text().map(Content::Json),
            Content::BINARY => self.bytes().map(Content::Binary),
            _ => Err(DecodeError::Unknown),
        }
    }

    fn numbered(&mut self) -> Decoded<Numbered> {
        Ok(Numbered {
            number: self.varint()?,
            bytes: self.bytes()?,
        })
    }

    fn list<T>(&mut self, entry: impl Fn(&mut Self) -> Decoded<T>) -> Decoded<Vec<T>> {
        let count = self.len()?;
        let mut list = Vec::with_capacity(count.min(MAX_RESERVED));
        for _ in 0..count {
            list.push(entry(self)?);
        }
        Ok(list)
    }

    fn text(&mut self) -> Decoded<ByteString> {
        ByteString::try_from(self.bytes()?).map_err(|_| DecodeError::Malformed)
    }

    fn bytes(&mut self) -> Decoded<Bytes> {
        let len = self.len()?;
        Ok(self.0.split_to(len))
    }

    /// A length in bytes or in entries. An entry has at least one byte, so neither exceeds what is left.
    fn len(&mut self) -> Decoded<usize> {
        let len = usize::try_from(self.varint()?).ok();
        len.filter(|len| *len <= self.0.len())
            .ok_or(DecodeError::Malformed)
    }

    fn seq(&mut self) -> Decoded<Seq> {
        self.varint().map(|number| Seq::new(number as i64))
    }

    fn time(&mut self) -> Decoded<i64> {
        self.0.try_get_i64_le().map_err(|_| DecodeError::Malformed)
    }

    fn byte(&mut self) -> Decoded<u8> {
        self.0.try_get_u8().map_err(|_| DecodeError::Malformed)
    }

    fn varint(&mut self) -> Decoded<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            let placed = bits << shift;
            if placed >> shift != bits {
                return Err(DecodeError::Malformed);
            }
            number |= placed;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError::Malformed)
    }
}
