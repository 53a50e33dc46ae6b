//! ONNX files as ONNX's own library writes them, with the sizes in a list one by one.
//!
//! A protobuf reader takes lists of numbers packed or one by one, but not all ONNX readers do; the encoder packs them.

/// The messages in which there are lists, or messages with lists.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
}

impl Message {
    /// What a field holds that is a message of interest.
    fn inner(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Graph, 1) => Some(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) => Some(Self::Tensor),
            (Self::Node, 5) => Some(Self::Attribute),
            _ => None,
        }
    }

    /// Whether a field is a list of whole numbers: the sizes of a tensor, those of an attribute.
    fn is_list(self, field: u64) -> bool {
        matches!((self, field), (Self::Tensor, 1) | (Self::Attribute, 8))
    }

    /// Whether a field is a list of f32: those of an attribute.
    fn is_list_of_f32(self, field: u64) -> bool {
        matches!((self, field), (Self::Attribute, 7))
    }
}

/// The file with such lists one by one; bytes that are no protobuf stay as they are.
pub fn unpacked(file: &[u8]) -> Vec<u8> {
    message(file, Message::Model).unwrap_or_else(|| file.to_vec())
}

fn message(bytes: &[u8], of: Message) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let begin = rest;
        let key = number(&mut rest)?;
        let (field, wire) = (key >> 3, key & 7);
        match wire {
            0 => {
                number(&mut rest)?;
            }
            1 => rest = rest.get(8..)?,
            5 => rest = rest.get(4..)?,
            2 => {
                let length = usize::try_from(number(&mut rest)?).ok()?;
                let (content, after) = rest.split_at_checked(length)?;
                rest = after;
                if let Some(inner) = of.inner(field) {
                    let content = message(content, inner)?;
                    put(key, &mut out);
                    put(content.len() as u64, &mut out);
                    out.extend(content);
                    continue;
                }
                if of.is_list_of_f32(field) {
                    for value in content.chunks_exact(4) {
                        put(field << 3 | 5, &mut out);
                        out.extend(value);
                    }
                    continue;
                }
                if of.is_list(field) {
                    let mut list = content;
                    while !list.is_empty() {
                        put(field << 3, &mut out);
                        put(number(&mut list)?, &mut out);
                    }
                    continue;
                }
            }
            _ => return None,
        }
        out.extend(&begin[..begin.len() - rest.len()]);
    }
    Some(out)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
