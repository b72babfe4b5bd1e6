//! Messages on a stream, as [`xlate_abi::protocol`] describes them: a length and a `postcard` body.

use std::io::{self, ErrorKind, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest message taken; a region's code and profile are far smaller.
const MAX_MESSAGE: u32 = 64 << 20;

/// Writes one message.
pub fn send(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = postcard::to_stdvec(message).map_err(|e| invalid(e.to_string()))?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= MAX_MESSAGE);
    let length = length.ok_or_else(|| invalid(format!("a message of {} bytes is too long to be sent", body.len())))?;
    stream.write_all(&length.to_le_bytes())?;
    stream.write_all(&body)?;
    stream.flush()
}

/// Reads one message; nothing at the end of the stream.
pub fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Ok(()) => {}
        Err(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return Ok(None),
        Err(e) => return Err(e),
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_MESSAGE {
        return Err(invalid(format!("a message of {length} bytes is too long")));
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body)?;
    postcard::from_bytes(&body).map(Some).map_err(|e| invalid(format!("a message makes no sense: {e}")))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in_and_damaged_ones_not_at_all() {
        let mut bytes = Vec::new();
        send(&mut bytes, &(7u32, "seven")).unwrap();
        send(&mut bytes, &(8u32, "eight")).unwrap();
        let mut stream = bytes.as_slice();
        assert_eq!(receive(&mut stream).unwrap(), Some((7u32, "seven".to_owned())));
        assert_eq!(receive(&mut stream).unwrap(), Some((8u32, "eight".to_owned())));
        assert_eq!(receive::<(u32, String)>(&mut stream).unwrap(), None);
        assert!(receive::<(u32, String)>(&mut &bytes[..9]).is_err(), "cut off in the middle");
        assert!(receive::<u32>(&mut &u32::MAX.to_le_bytes()[..]).is_err(), "no room is made for what can't be");
    }
}
