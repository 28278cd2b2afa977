//! Builds archives byte by byte, so that tests can make archives that usual tools do not make.

use crate::hostile::corpus::packed::{crc, deflated};
pub use crate::hostile::corpus::packed::{gz, xz, zst};
pub use crate::hostile::corpus::tar::{Piece, dir, file, global, hard, link, open_tar, pax, tar, typed};

/// A zip to write. Its headers are valid unless `twist` changes them.
#[derive(Default)]
pub struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}

/// The fields that both headers of an entry have in common.
pub struct Fields {
    pub flags: u16,
    pub method: u16,
    pub crc: u32,
    pub packed: u32,
    pub size: u32,
    pub at: u32,
    pub mode: u32,
    pub local_name: Vec<u8>,
    pub local_extra: Vec<u8>,
}

impl Zip {
    pub fn add(&mut self, piece: &Piece, twist: impl FnOnce(&mut Fields)) -> &mut Self {
        let data = if piece.flag == b'2' { &piece.target } else { &piece.data };
        let deflate = data.len() > 20;
        let packed = if deflate { deflated(data) } else { data.clone() };
        let kind = match piece.flag {
            b'5' => 0o40000,
            b'2' => 0o120000,
            _ => 0o100000,
        };
        let mut name = piece.name.clone();
        if piece.flag == b'5' && !name.ends_with(b"/") {
            name.push(b'/');
        }
        let mut fields = Fields {
            flags: 0x800,
            method: if deflate { 8 } else { 0 },
            crc: crc(data),
            packed: packed.len() as u32,
            size: data.len() as u32,
            at: self.bytes.len() as u32,
            mode: kind | piece.mode,
            local_name: name.clone(),
            local_extra: vec![],
        };
        twist(&mut fields);
        self.write(&fields, &name, &packed);
        self
    }

    fn write(&mut self, fields: &Fields, name: &[u8], packed: &[u8]) {
        let shared = |name: &[u8], extra: &[u8]| {
            let mut bytes = Vec::new();
            for short in [20, fields.flags, fields.method, 0, 0x21] {
                bytes.extend_from_slice(&short.to_le_bytes());
            }
            for long in [fields.crc, fields.packed, fields.size] {
                bytes.extend_from_slice(&long.to_le_bytes());
            }
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(&(extra.len() as u16).to_le_bytes());
            bytes
        };
        let local = [
            b"PK\x03\x04",
            shared(&fields.local_name, &fields.local_extra).as_slice(),
            &fields.local_name,
            &fields.local_extra,
            packed,
        ]
        .concat();
        self.bytes.extend(local);
        let central = [b"PK\x01\x02", [20, 3].as_slice(), &shared(name, &[]), &[0; 6]].concat();
        self.directory.extend(central);
        self.directory.extend_from_slice(&(fields.mode << 16).to_le_bytes());
        self.directory.extend_from_slice(&fields.at.to_le_bytes());
        self.directory.extend_from_slice(name);
        self.count += 1;
    }

    pub fn finish(&self) -> Vec<u8> {
        let mut bytes = [self.bytes.as_slice(), &self.directory, b"PK\x05\x06\0\0\0\0"].concat();
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&(self.directory.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.bytes.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes
    }
}

pub fn zip(pieces: &[Piece]) -> Vec<u8> {
    let mut zip = Zip::default();
    for piece in pieces {
        zip.add(piece, |_| {});
    }
    zip.finish()
}

/// Returns the entries as an archive of every format. In a zip, which has no hard links, a hard link becomes a copy
/// of its target.
pub fn every_format(pieces: &[Piece]) -> Vec<(&'static str, Vec<u8>)> {
    let tar = tar(pieces);
    let unlinked: Vec<Piece> = pieces
        .iter()
        .map(|piece| match piece.flag {
            b'1' => {
                let first = pieces.iter().find(|p| p.name == piece.target).unwrap();
                Piece { name: piece.name.clone(), ..first.clone() }
            }
            _ => piece.clone(),
        })
        .collect();
    let packed =
        [("x.tar.gz", gz(&tar)), ("x.tgz", gz(&tar)), ("x.tar.zst", zst(&tar)), ("x.tar.xz", xz(&tar))];
    packed.into_iter().chain([("x.zip", zip(&unlinked)), ("x.tar", tar)]).collect()
}
